"""Write docs/performance.md and docs/quality.md, and the tables of other pages, from the result files.

--check fails where they are out of date.

python -m bench.tables [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench import cluster, coverage, front_door, not_at_random
from bench import load as bench_load
from bench import scale as scale_tables
from bench import soak as bench_soak
from bench.accuracy import report
from bench.bars import BARS, INDEPENDENT, SOBOL_TO_IID, WHOLE_IMPUTE_SECONDS, Bar
from bench.markdown import machine, table, verdict
from bench.paper import report as paper_report

RESULTS = Path(__file__).parent / "results"
# Folders of results on machines of another kind: their heading, and what the machine is.
ELSEWHERE = {
    "without_avx512": (
        "Without AVX-512",
        "a processor that has AVX2 alone, for the kernels as for PyTorch; the paper's network has its own bar there",
    ),
    "intel": (
        "On an Intel processor",
        "an Intel processor with AVX-512, whose rate falls to a half at times, as if other guests shared its cores: "
        "shares of the peak differ from round to round",
    ),
}
ACCURACY = RESULTS / "accuracy.jsonl"
DOCS = Path(__file__).parents[1] / "docs"
SUITES = (
    "importance_impute", "importance_impute_avx2", "propose", "gaussian_mixture", "latent_classes", "training_step",
    "baseline_step",
)  # fmt: skip

Result = dict[str, Any]


def load(name: str) -> Result:
    """Result file of a suite."""
    result: Result = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def opponents(case: Result) -> list[tuple[str, float]]:
    """Candidates that the bar is held against, the fastest eager and compiled one, and how many times ours is as fast.

    Training steps have a bar against eager PyTorch alone.
    """
    found = []
    for kind in ("eager", "compiled") if case["unit"] == "rows/s" else ("eager",):
        those = {name: c for name, c in case["candidates"].items() if name.startswith(kind)}
        if those:
            name = max(those, key=lambda name: those[name]["items_per_second"])
            found.append((name, those[name]["ratio"]["median"]))
    return found


def missed(case: Result, bar: Bar) -> bool:
    """Whether a case falls short of its bar."""
    return min(ratio for _, ratio in opponents(case)) < bar.ratio or (
        bar.share is not None and independent_share(case) < bar.share
    )


def independent_share(case: Result) -> float:
    """Share of the peak with independent noise, where every sample needs all of the products."""
    share: float = case["arithmetic"][INDEPENDENT]["share_of_peak"]
    return share


def between_rounds(arithmetic: Result) -> str:
    """Least and largest share of the peak, where every round has one."""
    shares = arithmetic.get("share_of_rounds")
    return f" ({min(shares):.0%} to {max(shares):.0%} in single rounds)" if shares else ""


def bar_table(cases: list[Result], sampling: Result | None = None) -> str:
    """Every bar beside what was measured."""
    rows = []
    for case in cases:
        bar = BARS[case["case"]]
        for name, ratio in opponents(case):
            what = f"{case['case']}: times as fast as {name}"
            own = case.get("arithmetic", {}).get(case["ours"])
            ceiling = f"{ratio / own['share_of_peak']:.1f}" if own else ""
            rows.append(
                (what, f"{ratio:.1f}", f"{bar.ratio:g}", f"{bar.aim:g}", verdict(ratio, bar.ratio, bar.aim), ceiling)
            )
        if bar.share is not None and bar.share_aim is not None:
            share = independent_share(case)
            rows.append(
                (f"{case['case']}: share of the multiply-add peak, independent noise",
                 f"{share:.0%}{between_rounds(case['arithmetic'][INDEPENDENT])}",
                 f"{bar.share:.0%}", f"{bar.share_aim:.0%}", verdict(share, bar.share, bar.share_aim), "")
            )  # fmt: skip
    if sampling is not None:
        errors = sampling["root_mean_squared_error"]["1000"]
        ratio = errors["sobol"] / errors["iid"]
        rows.append(
            ("error of Sobol samples over iid ones, K = 1000, at most", f"{ratio:.2f}", f"{SOBOL_TO_IID[0]:g}",
             f"{SOBOL_TO_IID[1]:g}", verdict(ratio, *SOBOL_TO_IID), "")
        )  # fmt: skip
        bar, aim = WHOLE_IMPUTE_SECONDS
        seconds = sampling["seconds"]
        rows.append(
            ('impute(white_wine, preset="paper"), seconds, at most', f"{seconds:.0f}", f"{bar:g}", f"{aim:g}",
             verdict(seconds, bar, aim), "")
        )  # fmt: skip
    return table(("measured", "figure", "bar", "aim", "", "at the whole peak"), rows)


def bars(cases: list[Result], sampling: Result | None = None, explained: frozenset[str] = frozenset()) -> str:
    """Every bar with what was measured, and what stands in the way of those that are missed and not yet explained."""
    parts = [bar_table(cases, sampling)]
    names = [case["case"] for case in cases if missed(case, BARS[case["case"]]) and case["case"] not in explained]
    if names:
        parts += ["What falls short, and why:", "\n".join(f"* {name}: {BARS[name].limit}" for name in names)]
    return "\n\n".join(parts)


def candidates(case: Result) -> str:
    """Rates of all candidates of a case."""
    rows = []
    for name, candidate in case["candidates"].items():
        ratio = candidate.get("ratio")
        shown = f"{ratio['median']:.1f} ({ratio['least']:.1f} to {ratio['largest']:.1f})" if ratio else ""
        rows.append((name, f"{candidate['items_per_second']:,.0f}", shown))
    note = "".join(
        f"\n\n{name}: K = {case['n_samples']}; {own['flop_per_sample']:,.0f} operations a sample after folding, "
        f"{own['gflops']:.0f} GFLOP/s, {own['share_of_peak']:.0%} of the measured peak of "
        f"{case['fma_peak_gflops']:.0f} GFLOP/s{between_rounds(own)}."
        for name, own in case.get("arithmetic", {}).items()
    )
    if trips := case.get("round_trip_ns"):
        note += (
            f"\n\nBetween two processors and back a cache line took {trips[len(trips) // 2]:.0f} ns before the median "
            f"round, {trips[0]:.0f} to {trips[-1]:.0f} ns before all of them."
        )
    return f"### {case['case']}\n\n" + table(("candidate", case["unit"], f"{case['ours']} is faster by"), rows) + note


def sampling_section(result: Result) -> str:
    """Errors by sampler."""
    info = result["benchmarks"][0]["extra_info"]
    errors = info["root_mean_squared_error"]
    rows = []
    for sampler in errors["1000"]:
        own = [errors[k][sampler] for k in errors]
        ratios = [errors[k][sampler] / errors[k]["iid"] for k in errors]
        rows.append((sampler, *(f"{error:.5f}" for error in own), *(f"{ratio:.2f}" for ratio in ratios)))
    header = ("sampler", *(f"K = {k}" for k in errors), *(f"over iid, K = {k}" for k in errors))
    return "\n\n".join(
        [
            "## Samplers",
            "Root mean squared error of the imputed mean, in standard deviations of the column, against 65,536 "
            f"samples; model of the paper's preset trained on white_wine, half of the cells hidden, {info['n_seeds']} "
            f"seeds. The whole `impute` took {info['seconds']:.0f} s and gave an NRMSE of {info['nrmse']:.3f}.",
            table(header, rows),
            machine(result["machine_info"]),
        ]
    )


def scaling_section(result: Result) -> str:
    """Slopes."""
    rows = []
    for benchmark in result["benchmarks"]:
        info = benchmark["extra_info"]
        times = ", ".join(f"{size}: {1e3 * seconds:.1f} ms" for size, seconds in info["seconds"].items())
        rows.append((info["case"], times, f"{info['slope']:.2f}"))
    return "\n\n".join(
        [
            "## Growth of the cost",
            "Time of `importance_impute` against one size, the others at N = 512, K = 500, M = 12 numbers; the slope "
            "of log time is 1 where growth is linear. It stays below 1 where the hidden layers, whose width does not "
            "grow with M, still count.",
            table(("size", "median times", "slope"), rows),
            machine(result["machine_info"]),
        ]
    )


def projection_section(result: Result) -> str:
    """What two GPUs could reach at most."""
    rows = [
        (case["case"], case["gpu"], f"{case['rows_per_second']:,.0f}", f"{case['share_of_peak']:.0%}")
        for case in result["cases"]
    ]
    return "\n\n".join(
        [
            "## Projection for old GPUs",
            "**Not measured.** No GPU was at hand. From the machine code of the CUDA kernel: multiply-adds as a share "
            "of the instructions of its product loops, times the published float32 rate at boost clock, at K = "
            f"{result['n_samples']:,} (`python -m bench.projection`). Likelihood terms, barriers, memory and waits are "
            "left out, so that a device will be slower; layers of 16 outputs, of which a thread holds one, spend half "
            "of their instructions on loads.",
            table(("case", "GPU", "rows/s at most", "share of its peak at most"), rows),
            machine(result["environment"]),
        ]
    )


def elsewhere_section(folder: str, results: dict[str, Result], explained: frozenset[str]) -> str:
    """Bars on a machine of another kind, those in ``explained`` without a reason, and every case that has none."""
    title, what = ELSEWHERE[folder]
    held = []
    for result in results.values():
        for case in (benchmark["extra_info"] for benchmark in result["benchmarks"]):
            own = f"{case['case']}, AVX2 only"
            held.append(case | {"case": own} if result["machine_info"]["cpu_level"] == "avx2" and own in BARS else case)
    return "\n\n".join(
        [
            f"## {title}",
            f"The same suites on {what} (`python -m bench --only {','.join(results)} --results "
            f"bench/results/{folder}`), held against the same bars.",
            bars([case for case in held if case["case"] in BARS], explained=explained),
            *(candidates(case) for case in held if case["case"] not in BARS),
            *(machine(result["machine_info"]) for result in results.values()),
        ]
    )


def stream_section(result: Result) -> str:
    """Overhead and memory of impute_parquet."""
    rows = [
        (f"{p['n_rows']:,}", f"{p['n_rows'] / p['seconds']:,.0f}", f"{1 - p['transform_seconds'] / p['seconds']:.0%}",
         f"{p['peak_mb']:.0f}")
        for p in result["points"]
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Streaming Parquet",
            f"`impute_parquet` of a file of {result['n_columns']} columns in row groups of {result['group_rows']:,} "
            f"rows, the paper's network, K = {result['n_samples']} (`python -m bench.stream`). The overhead is the "
            "share of the wall time beyond `transform` of the same row groups in memory; the peak is how far the "
            "process's memory rises.",
            table(("N", "rows/s", "overhead", "peak, MB"), rows),
            machine(result["environment"]),
        ]
    )


def cluster_section(result: Result) -> str:
    """Ray beside one process."""
    ratio = result["ray"] / result["one_process"]
    met = "met" if ratio >= cluster.BAR else "**missed**"
    return "\n\n".join(
        [
            "## Ray",
            f"`impute_parquet` of {result['n_rows']:,} rows of 12 numbers, K = {result['n_samples']}, with "
            f"`engine=\"ray\"` on {result['nodes']} local nodes of one processor each, beside one process of as many "
            "threads (`python -m bench.cluster`); the targets are the same byte for byte.",
            table(
                ("one process, rows/s", "Ray, rows/s", "ratio", "bar", "", "memory of a worker, MB"),
                [(f"{result['one_process']:,.0f}", f"{result['ray']:,.0f}", f"{ratio:.2f}", f"{cluster.BAR:g}", met,
                  f"{result['worker_mb']:.0f}")],
            ),
            machine(result["environment"]),
        ]
    )  # fmt: skip


def kills_section(result: Result) -> str:
    """What killed processes left."""
    rows = [
        (name, str(counts["kills"]), str(counts["survived"]), str(counts["ends"]))
        for name, counts in result["victims"].items()
    ]
    kills, survived = (sum(counts[key] for counts in result["victims"].values()) for key in ("kills", "survived"))
    return "\n\n".join(
        [
            "## Kills",
            f"{survived} of {kills} kills survived (bar: all of 50). SIGKILL at random moments "
            "(`python -m bench.kills`): no file is half-written, and runs that go on end with the bytes of one that "
            "was never killed.",
            table(("killed", "kills", "survived", "came to an end"), rows),
            machine(result["environment"]),
        ]
    )


def load_section(result: Result) -> str:
    """Odd shapes, many callers, and encoding alone."""
    shapes = [
        (name, f"{s['n_rows']:,} x {s['n_columns']:,}", f"{s['fit_seconds']:.1f}", f"{s['transform_seconds']:.2f}",
         f"{s['peak_mb']:,.0f}", f"{s['nrmse_std']:.3f}")
        for name, s in result["shapes"].items()
    ]  # fmt: skip
    encoding = [
        (kind, f"{rate / 1e6:.1f}", f"{bench_load.ENCODING_BAR / 1e6:g}",
         "met" if rate >= bench_load.ENCODING_BAR else "**missed**")
        for kind, rate in result["encoding"].items()
    ]  # fmt: skip
    callers = result["callers"]
    return "\n\n".join(
        [
            "## Load",
            "`python -m bench.load`. Tables of odd shapes, three tenths of the cells missing, imputed with defaults "
            "and one network; the peak is how far the process's memory rises, the error is that of the numbers.",
            table(("table", "rows x columns", "fit, s", "transform, s", "peak, MB", "NRMSE std"), shapes),
            "From an Arrow table to what the network takes, on one core, checks of the cells included:",
            table(("12 columns of", "million cells/s", "bar", ""), encoding),
            f"{callers['n_threads']} threads that call `transform` of one imputer at once, {callers['n_rows']:,} rows "
            f"each: {callers['many_seconds']:.1f} s where one thread takes {callers['one_seconds']:.1f} s for the same "
            f"calls, memory rises by {callers['peak_mb']:.0f} MB, and the results are the same to the last bit.",
            machine(result["environment"]),
        ]
    )


def soak_section(result: Result) -> str:
    """Hours of streaming in one process."""
    rows, machines = [], []
    for run in result["runs"]:
        dearer = run["first"] / run["last"] - 1
        met = dearer <= bench_soak.COST_BAR and run["peak_mb"] <= bench_soak.MEMORY_BAR_MB
        rows.append(
            (f"{run['n_samples']:,}", f"{run['rows']:,}", f"{run['seconds'] / 60:.0f}",
             f"{run['rows'] / run['seconds']:,.0f}", f"{run['first']:,.0f}", f"{run['last']:,.0f}", f"{dearer:+.1%}",
             f"{run['peak_mb']:,.0f}", f"{run['mb_per_10m_rows']:+.1f}", "met" if met else "**missed**")
        )  # fmt: skip
        machines.append(f"K = {run['n_samples']:,}: {machine(run['environment'])}")
    return "\n\n".join(
        [
            "## Soak",
            f"`impute_parquet` of a folder of {result['n_columns']} numbers a row, files of "
            f"{bench_soak.PIECE_ROWS:,} rows, the paper's network (`python -m bench.soak`). A row may cost "
            f"{bench_soak.COST_BAR:.0%} more in the last tenth of the run than in the first (bar), and the whole "
            f"process, libraries included, may take {bench_soak.MEMORY_BAR_MB:,.0f} MB (bar).",
            table(
                ("K", "rows", "minutes", "rows/s", "first tenth", "last tenth", "dearer by", "peak, MB",
                 "MB for 10 million rows", "bars"),
                rows,
            ),
            *machines,
        ]
    )  # fmt: skip


def front_door_section(result: Result) -> str:
    """What a user waits for."""
    rows = []
    for name, seconds in result["seconds"].items():
        bar = front_door.BARS.get(name)
        met = "" if bar is None else "met" if seconds["median"] <= bar else "**missed**"
        median, *limits = (f"{seconds[which]:.3g}" for which in ("median", "least", "largest"))
        shown = f"{median} ({' to '.join(limits)})"
        rows.append((name, shown, "" if bar is None else f"{bar:g}", met))
    return "\n\n".join(
        [
            "## What a user waits for",
            "Seconds, medians of processes of their own (`python -m bench.front_door`); the imputation with defaults, "
            "without the imports.",
            table(("what", "seconds", "bar", ""), rows),
            machine(result["environment"]),
        ]
    )


def memory_section(result: Result) -> str:
    """Peak memory against N and K."""
    points = [
        (f"{p['n_rows']:,}", f"{p['n_samples']:,}", f"{p['peak_mb']:.0f}", f"{p['bytes_per_row']:.0f}")
        for p in result["points"]
    ]
    output = 8 * result["n_columns"]
    return "\n\n".join(
        [
            "## Memory of transform",
            f"How far `transform` of a float64 array with {result['n_columns']} columns raises the process's memory, "
            f"in megabytes; its result alone takes {output} bytes a row.",
            table(("N", "K", "peak, MB", "bytes per row"), points),
            machine(result["environment"]),
        ]
    )


def performance() -> str:
    """Text of docs/performance.md."""
    results = {name: load(name) for name in SUITES if (RESULTS / f"{name}.json").is_file()}
    sampling = load("sampling") if (RESULTS / "sampling.json").is_file() else None
    samplers = None if sampling is None else sampling["benchmarks"][0]["extra_info"]
    suites = {name: [b["extra_info"] for b in result["benchmarks"]] for name, result in results.items()}
    held = [case for cases in suites.values() for case in cases if case["case"] in BARS]
    explained = frozenset(case["case"] for case in held if missed(case, BARS[case["case"]]))
    parts = [
        "# Performance",
        "Generated from `bench/results/` by `make tables`; `make bench` measures. Ratios come from one run in which "
        "the candidates take turns, medians over the rounds; our time is that of the public function. Eager PyTorch "
        "(`bench/eager.py`, `bench/eager_training.py`, `bench/eager_baselines.py`) is written plainly from the papers; "
        "imputation is tried in batches of several sizes, and the bars are held against the fastest of them, plain "
        "and, where it was measured, through `torch.compile`. The share of the peak divides "
        "the arithmetic that is needed after folding by the multiply-add rate measured in the same run; the last "
        "column is the figure of a kernel that did nothing but multiply-adds, at all of that rate.",
        bars(held, samplers),
    ]
    titles = {
        "training_step": "## Training step",
        "baseline_step": "## Training step of the other models",
        "propose": "## propose",
        "gaussian_mixture": "## Gaussian member",
        "latent_classes": "## Latent classes",
        "importance_impute": "## importance_impute",
    }
    for name, cases in suites.items():
        parts += [titles[name]] if name in titles else []
        parts += [*(candidates(case) for case in cases), machine(results[name]["machine_info"])]
    for folder in ELSEWHERE:
        own = {n: load(f"{folder}/{n}") for n in SUITES if (RESULTS / folder / f"{n}.json").is_file()}
        parts += [elsewhere_section(folder, own, explained)] if own else []
    if sampling is not None:
        parts.append(sampling_section(sampling))
    if (RESULTS / "scaling.json").is_file():
        parts.append(scaling_section(load("scaling")))
    if (RESULTS / "front_door.json").is_file():
        parts.append(front_door_section(load("front_door")))
    if (RESULTS / "stream.json").is_file():
        parts.append(stream_section(load("stream")))
    if (RESULTS / "cluster.json").is_file():
        parts.append(cluster_section(load("cluster")))
    if (RESULTS / "kills.json").is_file():
        parts.append(kills_section(load("kills")))
    if (RESULTS / "soak.json").is_file():
        parts.append(soak_section(load("soak")))
    if (RESULTS / "load.json").is_file():
        parts.append(load_section(load("load")))
    if (RESULTS / "projection.json").is_file():
        parts.append(projection_section(load("projection")))
    if (RESULTS / "memory.json").is_file():
        parts.append(memory_section(load("memory")))
    return "\n\n".join(parts) + "\n"


def quality() -> str:
    """Text of docs/quality.md."""
    more = coverage.section(RESULTS / "coverage.jsonl"), not_at_random.section(RESULTS / "not_at_random.jsonl")
    return report.quality(ACCURACY) + "".join(f"\n{part}\n" for part in more if part)


README = Path(__file__).parents[1] / "README.md"
MARKS = ("<!-- generated by make tables -->", "<!-- end -->")


def between_marks(page: Path, text: str) -> str:
    """Page with what stands between the marks made anew."""
    before, _, rest = page.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}"


def readme() -> str:
    """README with its table of errors made anew."""
    return between_marks(README, report.summary(report.read(ACCURACY)))


def paper() -> str:
    """docs/paper.md with its tables made anew."""
    return between_marks(DOCS / "paper.md", paper_report.sections(RESULTS / paper_report.LINES))


def scale() -> str:
    """docs/scale.md with its figures made anew."""
    return between_marks(DOCS / "scale.md", scale_tables.section(RESULTS))


PAGES = {
    DOCS / "performance.md": performance,
    DOCS / "quality.md": quality,
    DOCS / "paper.md": paper,
    DOCS / "scale.md": scale,
    README: readme,
}


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for page, text in PAGES.items():
        if not check:
            page.write_text(text())
        elif not page.is_file() or page.read_text() != text():
            sys.exit(f"{page.name} does not follow from the result files; run make tables")
    if not check:
        report.write_picture(ACCURACY, DOCS)


if __name__ == "__main__":
    main()
