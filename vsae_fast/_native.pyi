"""Types of the C++ extension (csrc/bindings/module.cpp)."""

class Layer:
    def __init__(self, weight: int, bias: int, n_in: int, n_out: int, activation: bool) -> None: ...

class ImportanceImputeArguments:
    mean: int
    scale: int
    x: int
    mask: int
    noise: int
    context: int
    output_weight: int
    output_bias: int
    log_scale: int
    imputed: int
    log_evidence: int
    effective_size: int
    mask_layers: list[Layer]
    data_layers: list[Layer]
    attribute_start: list[int]
    attribute_kind: list[int]
    n_rows: int
    n_samples: int
    n_latent: int
    negative_slope: float
    visible_weight: float
    def __init__(self) -> None: ...

def importance_impute(arguments: ImportanceImputeArguments, n_threads: int, level: str = "") -> None: ...
def cpu_levels() -> list[str]: ...
def cpu_level() -> str: ...
def fma_peak(n_threads: int, seconds: float = 0.2, level: str = "") -> float: ...
