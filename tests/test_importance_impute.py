import math
import os
import subprocess
import sys

import pytest
import torch

from tests import tolerances
from tests.random_models import (
    CATEGORICAL,
    MANY,
    MIXED,
    NUMERICAL_12,
    ONE_CATEGORY,
    ONE_NUMBER,
    random_case,
)
from vsae_fast import _native
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.layout import AttributeLayout

LAYOUTS = {
    "numerical": NUMERICAL_12,
    "categorical": CATEGORICAL,
    "mixed": MIXED,
    "one number": ONE_NUMBER,
    "one category": ONE_CATEGORY,
}


def run(case, dtype, backend, **options):
    arguments, keywords = case.arguments(dtype)
    return importance_impute(*arguments, **keywords, backend=backend, **options)


def errors(result, truth):
    evidence = (result.log_evidence - truth.log_evidence).abs() / truth.log_evidence.abs().clamp(min=1)
    return {
        "imputed": (result.imputed - truth.imputed).abs().max().item(),
        "log_evidence": evidence.max().item(),
        "effective_size": (result.effective_size / truth.effective_size - 1).abs().max().item(),
    }


def on_cpu(case, **options):
    return run(case, torch.float32, "cpu", **options)


def assert_as_good_as_eager(case, kernel=on_cpu, **options):
    """Compare ``kernel(case, **options)`` with float64 and return its result."""
    truth = run(case, torch.float64, "reference", **options)
    eager = errors(run(case, torch.float32, "reference", **options), truth)
    result = kernel(case, **options)
    ours = errors(result, truth)
    assert torch.isfinite(result.imputed).all()
    assert ours["log_evidence"] <= tolerances.LOG_EVIDENCE_RELATIVE, (ours, eager)
    for name in ("imputed", "effective_size"):
        allowed = tolerances.TIMES_EAGER * max(eager[name], tolerances.EAGER_FLOOR)
        assert ours[name] <= allowed, (name, ours, eager)
    return result


@pytest.mark.parametrize("n_samples", [1, 31, 45, 1000])  # 45: a last block of 13, in half a block
@pytest.mark.parametrize("n_rows", [1, 3, 17, 257])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_float64_reference(layout, n_rows, n_samples, level):
    if level == "baseline" and n_rows * n_samples > 100_000:
        pytest.skip("the large shapes run on the machine's own level")
    assert_as_good_as_eager(random_case(LAYOUTS[layout], n_rows, n_samples, seed=n_rows + n_samples))


@pytest.mark.parametrize("observed", [0.0, 1.0])
@pytest.mark.parametrize("layout", ["numerical", "categorical", "mixed"])
def test_rows_all_observed_or_all_missing(layout, observed, level):
    assert_as_good_as_eager(random_case(LAYOUTS[layout], 17, 100, observed=observed))


@pytest.mark.parametrize("shift", [50.0, 140.0])
def test_log_weights_of_ten_thousand(shift, level):
    case = random_case(MIXED, 17, 300, observed=0.8)
    case.x[:, 3] += shift * case.decoders.log_scale[3].exp()
    case.mask[:, 1] = 1
    truth = run(case, torch.float64, "reference")
    assert truth.log_evidence.abs().max() > 1e3
    assert shift < 100 or truth.log_evidence.min() < -8e3
    assert_as_good_as_eager(case)


def test_large_positive_log_weights(level):
    """Tiny scales make densities, and so log-weights, large and positive."""
    case = random_case(AttributeLayout(("numerical",) * 1200, (1,) * 1200), 2, 64, observed=1.0, n_latent=4)
    case.decoders.log_scale[:] = -9.5
    case.decoders.output.weight[:] = 0
    case.decoders.output.bias[:] = 0.5
    case.x[:] = 0.5
    truth = run(case, torch.float64, "reference")
    assert truth.log_evidence.min() > 8e3
    result = run(case, torch.float32, "cpu")
    assert errors(result, truth)["log_evidence"] <= tolerances.LOG_EVIDENCE_RELATIVE


@pytest.mark.parametrize(
    "options",
    [
        {"context": True},
        {"data_widths": (33, 7)},
        {"data_widths": (128, 128, 5), "context": True},
        {"mask_widths": (3,), "n_latent": 5},
        {"n_latent": 1, "data_widths": (1,)},
    ],
)
def test_decoder_shapes(options, level):
    assert_as_good_as_eager(random_case(MIXED, 9, 77, **options))


def test_many_attributes_in_the_mask_likelihood(level):
    # So many rows that the worst error of either side is no luck.
    assert_as_good_as_eager(random_case(MANY, 100, 50))


@pytest.mark.parametrize("visible_weight", [0.0, 0.2])
def test_visible_weight(visible_weight, level):
    assert_as_good_as_eager(random_case(MIXED, 9, 77), visible_weight=visible_weight)


IMAGES = AttributeLayout(("numerical", "categorical", "numerical", "numerical"), (90, 3, 70, 2))


@pytest.mark.parametrize("observed", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("width", [5, 64, 70])
def test_wide_numerical_attributes_are_scored_in_the_hidden_space(width, observed, level):
    case = random_case(IMAGES, 9, 60, observed=observed, data_widths=(33, width))
    assert {wide.attribute for wide in case.decoders.wide_likelihoods} == {0, 2}
    assert_as_good_as_eager(case)
    assert_as_good_as_eager(case, visible_weight=0.2)


def test_wide_attribute_whose_output_layer_lacks_rank(level):
    case = random_case(IMAGES, 9, 60, observed=0.8, data_widths=(32,))
    case.decoders.output.weight[:, 5:20] = 0
    case.decoders.output.weight[:, 25] = case.decoders.output.weight[:, 26]
    assert_as_good_as_eager(case)


def test_wide_layers(level):
    assert_as_good_as_eager(random_case(MIXED, 5, 60, data_widths=(512, 300), context=True))


# ---- what stands in unobserved cells, and other values out of the ordinary -----------------------------------------


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 1e-42])
@pytest.mark.parametrize("layout", [MIXED, IMAGES])
def test_unobserved_cells_are_never_read(layout, rubbish, level):
    case = random_case(layout, 9, 60)
    clean = run(case, torch.float32, "cpu", n_draws=2)
    case.x = torch.where(layout.expand(case.mask) > 0, case.x, rubbish)
    assert_identical(clean, run(case, torch.float32, "cpu", n_draws=2))
    for backend in ("cpu", "reference"):
        assert torch.isfinite(run(case, torch.float32, backend).imputed).all()


def test_denormal_inputs(level):
    case = random_case(NUMERICAL_12, 5, 60)
    case.mean *= 1e-42
    case.x *= 1e-42
    case.noise[::3] = 1e-40
    assert_as_good_as_eager(case)


def test_samples_of_no_weight_do_not_count(level):
    """A sample whose log-weight is -inf, because its latent overflows, is as good as absent."""
    case = random_case(NUMERICAL_12, 5, 60, observed=0.9)
    case.scale += 1  # wider than the prior: weights fall far out
    few = run(case, torch.float32, "cpu")
    case.noise = torch.cat([case.noise, torch.full((7, case.noise.shape[1]), 1e18, dtype=torch.float64)])
    more = run(case, torch.float32, "cpu")
    torch.testing.assert_close(more.imputed, few.imputed, rtol=1e-5, atol=1e-6)


def assert_identical(a, b):
    for left, right in zip(a, b, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("layout", ["numerical", "mixed"])
def test_threads_and_row_cuts_change_nothing(layout, level):
    case = random_case(LAYOUTS[layout], 97, 130, context=True)
    (mean, scale, x, mask, noise, decoders), keywords = case.arguments(torch.float32)
    context = keywords["context"]
    whole = importance_impute(mean, scale, x, mask, noise, decoders, context=context, n_threads=1)
    assert_identical(whole, importance_impute(mean, scale, x, mask, noise, decoders, context=context, n_threads=2))
    assert_identical(whole, importance_impute(mean, scale, x, mask, noise, decoders, context=context, n_threads=7))
    for cuts in ([1] * 97, [50, 47], [3, 90, 4]):
        parts = [
            importance_impute(*(t.contiguous() for t in rows[:4]), noise, decoders, context=rows[4].contiguous())
            for rows in zip(*(t.split(cuts) for t in (mean, scale, x, mask, context)), strict=True)
        ]
        assert_identical(whole, [torch.cat(fields) for fields in zip(*parts, strict=True)])
    order = torch.randperm(97)
    shuffled = importance_impute(
        mean[order], scale[order], x[order], mask[order], noise, decoders, context=context[order]
    )
    assert_identical([field[order] for field in whole], shuffled)


def test_observed_values_come_back_bit_identical(level):
    case = random_case(MIXED, 33, 31)
    result = run(case, torch.float32, "cpu")
    observed = MIXED.expand(case.mask) > 0
    assert torch.equal(result.imputed[observed], case.x.float()[observed])


def test_non_contiguous_inputs(level):
    case = random_case(NUMERICAL_12, 20, 31)
    (mean, scale, x, mask, noise, decoders), _ = case.arguments(torch.float32)
    strided = [t.t().contiguous().t() for t in (mean, scale, x, mask, noise)]
    assert not strided[0].is_contiguous()
    assert_identical(importance_impute(mean, scale, x, mask, noise, decoders), importance_impute(*strided, decoders))


def test_infinite_residuals_do_not_make_nan(level):
    case = random_case(NUMERICAL_12, 3, 50, observed=0.9)
    case.x *= 1e25
    assert torch.isfinite(run(case, torch.float32, "cpu").imputed).all()


def test_concurrent_calls_from_python_threads():
    from concurrent.futures import ThreadPoolExecutor

    case = random_case(MIXED, 64, 200)
    expected = run(case, torch.float32, "cpu")
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: run(case, torch.float32, "cpu"), range(12)):
            assert_identical(expected, result)


def test_no_rows():
    result = run(random_case(MIXED, 0, 10), torch.float32, "cpu")
    assert result.imputed.shape == (0, MIXED.n_columns)


def test_works_after_fork():
    code = (
        "import os, torch\n"
        "from tests.random_models import MIXED, random_case\n"
        "from tests.test_importance_impute import run\n"
        "case = random_case(MIXED, 64, 64)\n"
        "before = run(case, torch.float32, 'cpu')\n"
        "pid = os.fork()\n"
        "after = run(case, torch.float32, 'cpu', n_threads=2)\n"
        "same = torch.equal(before.imputed, after.imputed)\n"
        "if pid == 0:\n"
        "    os._exit(0 if same else 1)\n"
        "assert same and os.waitpid(pid, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_stops_within_a_second_of_an_interrupt():
    code = (
        "import signal, time, torch\n"
        "from tests.random_models import MIXED, random_case\n"
        "from tests.test_importance_impute import run\n"
        "case = random_case(MIXED, 3000, 3000, data_widths=(256, 256))\n"
        "begin = time.perf_counter()\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.5)\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "try:\n"
        "    run(case, torch.float32, 'cpu', n_threads=2)\n"
        "except KeyboardInterrupt:\n"
        "    assert time.perf_counter() - begin < 1.5\n"
        "else:\n"
        "    raise SystemExit('was not interrupted')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_op_is_registered_with_a_fake():
    case = random_case(MIXED, 4, 8)
    (mean, scale, x, mask, noise, decoders), _ = case.arguments(torch.float32)
    layers = (*decoders.data_layers, decoders.output)
    arguments = (
        mean.unsqueeze(1), scale.unsqueeze(1), x, mask, noise, None, torch.arange(4),
        [layer.weight for layer in decoders.mask_layers],
        [layer.bias for layer in decoders.mask_layers],
        [layer.activation for layer in decoders.mask_layers],
        [layer.weight for layer in layers],
        [layer.bias for layer in layers],
        [layer.activation for layer in layers],
        decoders.log_scale, [], [], [], list(MIXED.starts), list(MIXED.kind_codes), 0.01, 1.0, 0.0, 2, 0, 1,
    )  # fmt: skip
    op = torch.ops.vsae_fast.importance_impute.default
    torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))
    assert_identical(op(*arguments), importance_impute(mean, scale, x, mask, noise, decoders, n_draws=2))

    def double(argument):
        if isinstance(argument, list):
            return [double(item) for item in argument]
        is_real = isinstance(argument, torch.Tensor) and argument.is_floating_point()
        return argument.double() if is_real else argument

    as_double = [double(argument) for argument in arguments]
    assert op(*as_double)[0].dtype == torch.float64


def test_explicit_backend_never_falls_back():
    case = random_case(MIXED, 2, 4)
    with pytest.raises(ValueError, match="float32"):
        run(case, torch.float64, "cpu")
    with pytest.raises(ValueError, match="unknown backend 'gpu'"):
        run(case, torch.float32, "gpu")


def test_bad_shapes_name_the_argument():
    (mean, scale, x, mask, noise, decoders), _ = random_case(MIXED, 4, 8).arguments(torch.float32)
    with pytest.raises(ValueError, match="mask must have shape"):
        importance_impute(mean, scale, x, mask[:, :-1], noise, decoders)
    with pytest.raises(ValueError, match="scale must have shape"):
        importance_impute(mean, scale[:-1], x, mask, noise, decoders)
    with pytest.raises(ValueError, match="at least one sample"):
        importance_impute(mean, scale, x, mask, noise[:0], decoders)
    with pytest.raises(ValueError, match="n_threads"):
        importance_impute(mean, scale, x, mask, noise, decoders, n_threads=0)
    with pytest.raises(ValueError, match="tolerance"):
        importance_impute(mean, scale, x, mask, noise, decoders, tolerance=float("nan"))
    with pytest.raises(ValueError, match="n_draws"):
        importance_impute(mean, scale, x, mask, noise, decoders, n_draws=-1)
    with pytest.raises(ValueError, match="row_id must be int64"):
        importance_impute(mean, scale, x, mask, noise, decoders, n_draws=1, row_id=torch.arange(3))
    with pytest.raises(ValueError, match=r"mask must be torch\.float32 on cpu like the others"):
        importance_impute(mean, scale, x, mask.bool(), noise, decoders)
    three = mean.unsqueeze(1).expand(-1, 3, -1)
    with pytest.raises(ValueError, match="whole number of samples for each of 3 proposals"):
        importance_impute(three, three, x, mask, noise, decoders)
    with pytest.raises(ValueError, match="scale must have shape"):
        importance_impute(three, scale, x, mask, noise, decoders)


def test_unknown_level_is_refused(monkeypatch):
    monkeypatch.setenv("VSAE_FAST_CPU", "sse9")
    with pytest.raises(ValueError, match="unknown CPU level 'sse9'"):
        run(random_case(MIXED, 2, 4), torch.float32, "cpu")


@pytest.mark.skipif("avx512" in _native.cpu_levels(), reason="this machine runs AVX-512")
def test_level_that_the_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setenv("VSAE_FAST_CPU", "avx512")
    with pytest.raises(ValueError, match="cannot run on this machine"):
        run(random_case(MIXED, 2, 4), torch.float32, "cpu")
    assert os.environ["VSAE_FAST_CPU"] == "avx512"
