"""pytest-benchmark figures to follow over time (``pytest --benchmark-only``); ``bench/`` measures the ratios."""

import pytest

from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, random_case
from vsae_fast.ops.importance_impute import importance_impute


@pytest.mark.parametrize(
    ("layout", "context"),
    [(NUMERICAL_12, False), (MIXED, True), (CATEGORICAL, False)],
    ids=["numbers", "mixed", "levels"],
)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_importance_impute(benchmark, layout, context, backend):
    case = random_case(layout, 64, 1000, context=context)
    arguments, keywords = case.arguments(case.x.float().dtype)
    benchmark.group = f"importance_impute {layout.n_attributes} attributes"
    result = benchmark(importance_impute, *arguments, **keywords, backend=backend)
    assert result.imputed.isfinite().all()
