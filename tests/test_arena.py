"""The accuracy arena: data, opponents, scores, ranks. Opponents run on a small table that they can learn."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from bench.accuracy import __main__ as command
from bench.accuracy import runs
from bench.accuracy.bars import BARS
from bench.accuracy.encoding import Encoding
from bench.accuracy.methods import DEFAULT, METHODS
from bench.accuracy.picture import draw
from bench.accuracy.ranks import compare
from bench.accuracy.report import length, quality, write_picture
from bench.accuracy.scores import coverage, energy_distance, errors
from bench.accuracy.sets import SETS, load, sample_rows
from bench.baselines import gain, miwae
from bench.baselines.miwae import Miwae
from vsae_fast import VSAEImputer
from vsae_fast.missingness import ampute
from vsae_fast.multiple import MultipleImputation

OPPONENTS = [name for name in DEFAULT if name not in ("mean / mode", "vsae_fast auto", "miceforest")]


@pytest.fixture(scope="module")
def truth():
    """Two numbers that follow a third, and levels that follow its sign."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=240)
    noise = rng.normal(size=(2, 240)) * 0.1
    level = np.where(a < -0.5, "low", np.where(a < 0.5, "middle", "high")).astype(object)
    return pd.DataFrame({"a": a, "b": 3 - 2 * a + noise[0], "c": 5 * a + noise[1], "level": level})


def test_encoding_goes_there_and_back(truth):
    encoding = Encoding(truth)
    incomplete, mask = ampute(truth, "MCAR", 0.4, random_state=0)
    matrix = encoding.encode(truth)
    assert np.isnan(encoding.encode(incomplete)).any(axis=1).tolist() == (~mask).any(axis=1).tolist()
    pd.testing.assert_frame_equal(encoding.fill(incomplete, matrix), truth, check_dtype=False)


@pytest.mark.parametrize("name", OPPONENTS)
def test_opponents_learn_a_simple_table(name, truth, monkeypatch):
    monkeypatch.setattr(miwae, "N_STEPS", 400)
    monkeypatch.setattr(gain.Gain.__init__, "__defaults__", (400, 0))
    monkeypatch.setattr(Miwae, "n_samples", 100)
    incomplete, mask = ampute(truth, "MCAR", 0.25, random_state=1)
    before = incomplete.copy()
    train, test = slice(None, 180), slice(180, None)
    method = METHODS[name]()
    completed = method.fit_transform(incomplete.iloc[train])
    unseen = method.transform(incomplete.iloc[test])
    pd.testing.assert_frame_equal(incomplete, before)
    for part, result in ((train, completed), (test, unseen)):
        assert not result.isna().any(axis=None)
        seen = mask[part]
        assert (result.to_numpy(object)[seen] == truth.iloc[part].to_numpy(object)[seen]).all()
        scores = errors(truth.iloc[part], result, mask[part])
        assert scores["nrmse_std"] < 0.8
        assert scores["pfc"] < 0.5  # two thirds is chance


def test_miceforest_learns_a_simple_table(truth):
    pytest.importorskip("miceforest")
    incomplete, mask = ampute(truth, "MCAR", 0.25, random_state=1)
    method = METHODS["miceforest"]()
    completed = method.fit_transform(incomplete)
    assert errors(truth, completed, mask)["nrmse_std"] < 0.8
    assert len(method.sample(incomplete, 50)) == 3
    assert not method.sample(incomplete, 1)[0].isna().any(axis=None)


# Stands in for a Python that has hyperimpute: means, and a code that no level has.
OTHER_PYTHON = """#!{python}
import sys
import numpy as np
isolated, worker, given, found, most_levels = sys.argv[1:]
matrix = np.load(given)
if {fails}:
    sys.exit("no module named hyperimpute")
np.save(found, np.where(np.isnan(matrix), np.nanmean(matrix, axis=0) + [0, 100], matrix)[:, : {n_columns}])
"""


@pytest.fixture
def other_python(tmp_path, monkeypatch):
    def write(fails=False, n_columns=2):
        path = tmp_path / "python"
        path.write_text(OTHER_PYTHON.format(python=sys.executable, fails=fails, n_columns=n_columns))
        path.chmod(0o755)
        monkeypatch.setenv("HYPERIMPUTE_PYTHON", str(path))

    return write


def test_hyperimpute_runs_in_another_python(other_python):
    table = pd.DataFrame({"x": [1.0, 3.0, np.nan], "y": ["b", None, "a"]}, index=[7, 8, 9])
    other_python()
    completed = METHODS["hyperimpute"]().fit_transform(table)
    pd.testing.assert_frame_equal(
        completed, pd.DataFrame({"x": [1.0, 3.0, 2.0], "y": ["b", "a", "a"]}, index=table.index)
    )
    other_python(n_columns=1)
    with pytest.raises(RuntimeError, match=r"a matrix of shape \(3, 1\)"):
        METHODS["hyperimpute"]().fit_transform(table)
    other_python(fails=True)
    with pytest.raises(RuntimeError, match="no module named hyperimpute"):
        METHODS["hyperimpute"]().fit_transform(table)


def test_hyperimpute_asks_for_its_python(monkeypatch):
    monkeypatch.delenv("HYPERIMPUTE_PYTHON", raising=False)
    with pytest.raises(RuntimeError, match="HYPERIMPUTE_PYTHON must name a Python that has hyperimpute"):
        METHODS["hyperimpute"]().fit_transform(pd.DataFrame({"x": [1.0, np.nan]}))


@pytest.mark.parametrize("name", ["vsae_fast auto", "chained Bayesian ridge"])
def test_hidden_truth_is_never_read(name, truth, monkeypatch):
    """Shuffle what stands in the hidden cells: the imputations must not change."""
    completed = {}
    monkeypatch.setitem(METHODS, "vsae_fast auto", lambda: VSAEImputer(epochs=3, random_state=0))

    def imputed(table, key):
        monkeypatch.setattr(runs, "load", lambda *_: table)
        monkeypatch.setattr(runs, "errors", lambda _, result, mask: completed.setdefault(key, (result, mask)) and {})
        run = runs.Run("whole", "wine", "MCAR", 0.4, 3, name)
        runs.execute(run, None)

    imputed(truth, "first")
    mask = completed["first"][1]
    rng = np.random.default_rng(5)
    shuffled = truth.copy()
    for j, column in enumerate(truth):
        values, hidden = truth[column].to_numpy(copy=True), np.flatnonzero(~mask[:, j])
        values[hidden] = values[rng.permutation(hidden)]
        shuffled[column] = values
    assert not shuffled.equals(truth)
    imputed(shuffled, "second")
    assert (completed["second"][1] == mask).all()
    for j, column in enumerate(truth):
        a, b = (completed[key][0][column].to_numpy(object)[~mask[:, j]] for key in ("first", "second"))
        assert (a == b).all()


def test_a_failing_opponent_is_recorded_and_ours_raises(truth, monkeypatch, tmp_path):
    class Failing:
        def fit_transform(self, table):
            raise ArithmeticError("no")

    monkeypatch.setattr(runs, "load", lambda *_: truth)
    for name in ("GAIN", "vsae_fast auto"):
        monkeypatch.setitem(METHODS, name, Failing)
    result = runs.execute(runs.Run("split", "wine", "MCAR", 0.4, 3, "GAIN"), None)
    assert result["error"] == "ArithmeticError: no"
    assert result["scores"] == {}
    with pytest.raises(ArithmeticError):
        runs.execute(runs.Run("split", "wine", "MCAR", 0.4, 3, "vsae_fast auto"), None)
    path = tmp_path / "lines.jsonl"
    lines = [line("p", m, e) for m, e in (("x", 0.1), ("vsae_fast auto", 0.2), ("GAIN", 0.3))]
    lines[2].update(scores={}, error="ArithmeticError: no")
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    text = quality(path)
    assert "GAIN failed on 1 masks (first on p: ArithmeticError: no)" in text
    assert set(compare(lines).ranks) == {"x", "vsae_fast auto"}


def test_a_method_of_few_tables_has_scores_and_no_rank(tmp_path):
    lines = [line(name, method, 0.5) for name in ("p", "q") for method in ("x", "vsae_fast auto")]
    lines.append(line("q", "hyperimpute", 0.123))
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    assert set(compare(lines).ranks) == {"x", "vsae_fast auto"}
    assert compare(lines).n_sets == 2
    rows = [row for row in quality(path).splitlines() if row.startswith(("| p | NRMSE", "| q | NRMSE"))]
    assert [row.split("|")[-2].strip() for row in rows] == ["", "0.123"]


def test_energy_distance_is_small_for_one_distribution_and_large_for_two():
    rng = np.random.default_rng(0)
    a, b = (pd.DataFrame({"x": rng.normal(size=900), "y": rng.choice(["u", "v"], 900)}) for _ in range(2))
    assert abs(energy_distance(a, b)) < 0.02
    assert energy_distance(a, b.assign(x=b["x"] + 2)) > 0.5
    assert energy_distance(a, b.assign(y="u")) > 0.1


def test_coverage_of_draws_from_the_truth():
    rng = np.random.default_rng(0)
    mask = rng.random((2000, 1)) < 0.3
    truth, *draws = (pd.DataFrame({"x": rng.normal(size=2000)}) for _ in range(51))

    def share(factor, true=truth):
        drawn = MultipleImputation(lambda i: factor * draws[i], ~mask, len(draws))
        return coverage(true, drawn.interval(0.9), mask)

    assert share(1.0) == pytest.approx(0.9, abs=0.03)
    assert share(0.5) < 0.7
    assert share(1.0, truth.astype(str)) is None


def line(name, method, error, seed=0, protocol="split"):
    scores = {"nrmse_std": error, "nrmse_range": error, "nrmse_rms": error, "pfc": None, "energy": 0.1, "coverage": 0.9}
    return {
        "protocol": protocol, "set": name, "mechanism": "MCAR", "hidden": 0.5, "seed": seed, "method": method,
        "n_rows": 10, "scores": {"in-sample": scores, "held-out": scores}, "peak_mb": 1.0,
        "seconds": {"fit_transform": 1.0, "transform of 10,000 rows": 0.5},
        "environment": {
            "cpu": "a", "cores": 2, "cpu_level": "avx2", "threads": 2, "load_before": 0, "torch": "2", "python": "3",
            "commit": "abc", "date": "2026-01-01",
        },
    }  # fmt: skip


def test_ranks():
    lines = [line(s, m, e) for s in ("p", "q") for m, e in (("x", 0.3), ("y", 0.1), ("z", 0.2))]
    assert compare(lines).ranks == {"y": 1.0, "z": 2.0, "x": 3.0}
    assert compare(lines).n_sets == 2
    # Demsar's table: q = 2.343 for three methods.
    assert compare(lines).critical_difference() == pytest.approx(2.343 * (3 * 4 / (6 * 2)) ** 0.5, abs=2e-3)
    assert compare(lines[:-1]).n_conditions == 1  # the last mask is not finished yet
    assert compare(lines[:1]) is None


def test_page_and_picture_follow_from_the_lines(tmp_path):
    path = tmp_path / "lines.jsonl"
    lines = [line(s, m, e) for s in ("p", "q") for m, e in (("vsae_fast auto", 0.1), ("mean / mode", 0.2))]
    own = [
        line("yeast", m, e, protocol="whole") for m, e in (("vsae_fast auto", 0.95), ("chained random forests", 1.0))
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines + own))
    text = quality(path)
    write_picture(path, tmp_path)
    assert (tmp_path / "mean_ranks.svg").stat().st_size > 1000
    assert "| yeast | NRMSE | 0.950 | 0.955 | 0.945 | met | 1.000 |  | 1 |" in text
    assert "| vsae_fast auto | 1.00 | 1.00 |" in text
    assert "| MCAR 50% | 0.900 | 0.87 to 0.93 | met | 0.900 (p) | 0.900 (p) |" in text
    draw(compare(lines), tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "mean_ranks.svg").read_bytes()


def test_command_resumes(tmp_path, monkeypatch, capsys):
    output = tmp_path / "lines.jsonl"
    arguments = ["--sets", "iris", "--methods", "mean / mode", "--protocol", "split", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["accuracy", *arguments])
    monkeypatch.delenv("VSAE_FAST_DATA", raising=False)
    command.main()
    whole = output.read_text().splitlines()
    assert len(whole) == 3 * 2 * 3
    output.write_text("\n".join(whole[:7]) + "\n")
    command.main()
    again = [json.loads(entry) for entry in output.read_text().splitlines()]
    assert [entry["scores"] for entry in again] == [json.loads(entry)["scores"] for entry in whole]
    assert capsys.readouterr().out.count("iris") == 18 + 11


def test_several_processes_give_the_same_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("VSAE_FAST_DATA", raising=False)
    found = []
    for jobs in ("1", "2"):
        output = tmp_path / jobs
        arguments = ["--sets", "iris,wine", "--methods", "mean / mode", "--seeds", "0", "--protocol", "split"]
        monkeypatch.setattr(sys, "argv", ["accuracy", *arguments, "--jobs", jobs, "--output", str(output)])
        command.main()
        found.append([json.loads(entry) for entry in output.read_text().splitlines()])
    one, two = ({runs.Run(*(e[f] for f in runs.Run._fields)): e["scores"] for e in lines} for lines in found)
    assert one == two
    assert len(one) == 2 * 2 * 3
    assert {entry["environment"]["threads"] for entry in found[1]} == {1}
    assert all(entry["seconds"]["run"] >= entry["seconds"]["fit_transform"] for lines in found for entry in lines)
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-2], "--minutes", "0", "--output", str(tmp_path / "late")])
    command.main()
    assert "time is up" in capsys.readouterr().out


def test_times_of_two_machines_stand_apart(tmp_path):
    def timed(method, seconds, level, commit, cpu):
        own = line("p", method, 0.5, protocol="whole")
        own["seconds"] = {"fit_transform": seconds, "transform of 10,000 rows": seconds}
        return {**own, "environment": {**own["environment"], "cpu_level": level, "commit": commit, "cpu": cpu}}

    def write(path, level, ours, trees, commit, cpu="AMD EPYC"):
        path.parent.mkdir(exist_ok=True)
        both = {"vsae_fast auto": ours, "chained random forests": trees}
        lines = [timed(method, seconds, level, commit, cpu) for method, seconds in both.items()]
        path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))

    path = tmp_path / "lines.jsonl"
    write(path, "avx2", 2.0, 50.0, "new")
    assert "With AVX-512" not in quality(path)
    write(tmp_path / "with_avx512" / path.name, "avx512", 1.0, 19.0, "old")
    write(tmp_path / "intel" / path.name, "avx512", 3.0, 66.0, "own", "Intel(R) Xeon(R) Processor")
    write(tmp_path / "without_avx512" / path.name, "avx512", 9.0, 9.0, "elsewhere")  # in a folder that is not theirs
    text = quality(path)
    with_it, rest = text.split("With AVX-512 (commits old):")[1].split(
        "With AVX-512, an Intel processor (commits own):"
    )
    intel, without = rest.split("Without AVX-512 (commits new):")
    assert "| p | 1.0 | 19.0 | 19.0 | 1.00 | 19.00 | 19.0 | **missed** |" in with_it
    assert "| p | 2.0 | 50.0 | 25.0 | 2.00 | 50.00 | 25.0 | met |" in without
    assert "| p | 3.0 | 66.0 | 22.0 | 3.00 | 66.00 | 22.0 | met |" in intel
    assert text.count("| p |") == 3


def test_length_of_a_full_run_counts_the_quietest_runs(monkeypatch):
    monkeypatch.setattr("bench.accuracy.report.DEFAULT", ("x", "y"))
    monkeypatch.setattr("bench.accuracy.report.SETS", ("p",))
    lines = [
        {**line("p", method, 0.1), "seconds": {"run": seconds}, "environment": {"load_before": load, "cores": 2}}
        for method, seconds, load in (("x", 900.0, 1.0), ("x", 9000.0, 2.5), ("y", 300.0, 2.0), ("y", 400.0, 0.0))
    ]
    assert "18 masks of every table, takes 3.2 hours on two cores" in length(lines)
    assert "(bar 3, **missed**)" in length(lines)
    assert length([run for run in lines if run["method"] == "x"]) == ""
    assert length([{**run, "seconds": {"fit_transform": 1.0}} for run in lines]) == ""


def test_unknown_names_are_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["accuracy", "--methods", "oracle"])
    with pytest.raises(SystemExit):
        command.main()
    assert "unknown method 'oracle'" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["accuracy", "--jobs", "0"])
    with pytest.raises(SystemExit):
        command.main()
    assert "--jobs must be at least 1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="unknown set 'salt'"):
        load("salt", None)
    with pytest.raises(SystemExit, match="yeast needs --data FOLDER"):
        load("yeast", None)


def test_sets(data_dir):
    assert {name for name, _ in BARS} <= set(SETS)
    table = load("yeast", data_dir)
    assert "class" not in table
    rows = sample_rows(table, 100, 1)
    assert len(rows) == 100
    pd.testing.assert_frame_equal(rows, sample_rows(table, 100, 1))
