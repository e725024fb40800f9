"""What `impute` must reach on whole tables, MCAR 50 %, in-sample, defaults, mean of three masks: bar and aim."""

BARS: dict[tuple[str, str], tuple[float, float]] = {
    ("white_wine", "nrmse_std"): (0.840, 0.82),
    ("yeast", "nrmse_std"): (0.955, 0.945),
    ("mushroom", "pfc"): (0.205, 0.18),
    ("phishing_websites", "pfc"): (0.186, 0.175),
    ("heart_cleveland", "nrmse_std"): (0.940, 0.93),
    ("heart_cleveland", "pfc"): (0.350, 0.34),
    ("breast_cancer", "nrmse_std"): (0.490, 0.47),
    ("breast_cancer", "pfc"): (0.040, 0.035),
}
TRANSFORM_RATIO = (20.0, 100.0)  # chained trees' time for 10,000 new rows over ours, at least
ARENA_HOURS = 3.0  # of a full run on two cores, at most
COVERAGE = (0.87, 0.93)  # of 90 % intervals
