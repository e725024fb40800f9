"""Every tolerance of the kernel tests, in one place."""

# C++ kernel against the float64 reference on the same noise.
LOG_EVIDENCE_RELATIVE = 1e-5  # of max(1, |log evidence|)
TIMES_EAGER = 2.0  # the kernel's worst error may be this many times that of eager float32 ...
EAGER_FLOOR = 1e-6  # ... whose own error is not taken for smaller than this (a few ulp of values near 1)

GPU_FLOAT32_RELATIVE = 1e-5  # of imputed values against float64, in relative norm
BFLOAT16_RELATIVE = 1e-2
TF32_RELATIVE = 1e-3

GRADIENT_FLOOR = 2e-6  # likewise for gradients, relative to the largest

PROBABILITY = 1e-6  # absolute, of float32 sums over hundreds of classes: a few ulp of values near 1

# Float64 results against closed forms.
EXACT = 1e-10
# Monte Carlo estimates: standard errors that the estimate may be off.
STANDARD_ERRORS = 5.0

# Losses of the C++ trainer against the float64 reference, the first twenty steps on the same noise.
TRAINING_RELATIVE = 1e-4

# Largest error of the elementary functions, in units in the last place of the result, over dense sweeps.
ELEMENTARY_ULP = {"exp": 1.0, "exp_negative": 1.0, "log": 0.8, "sigmoid": 2.3}
SOFTPLUS_ABSOLUTE = 1.5e-7  # beside max(1, result)
NORMAL_QUANTILE_ULP = 8.0  # float64
