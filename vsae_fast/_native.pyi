"""Types of the C++ extension (csrc/bindings)."""

from collections.abc import Sequence
from typing import Protocol

class Layer:
    def __init__(self, weight: int, bias: int, n_in: int, n_out: int, activation: bool) -> None: ...

class WideLikelihood:
    def __init__(self, attribute: int, triangle: int, projection: int) -> None: ...

class ImportanceImputeArguments:
    mean: int
    scale: int
    x: int
    mask: int
    noise: int
    context: int
    row_id: int
    output_weight: int
    output_bias: int
    log_scale: int
    imputed: int
    log_evidence: int
    effective_size: int
    n_spent: int
    draws: int
    mask_layers: list[Layer]
    data_layers: list[Layer]
    wide: list[WideLikelihood]
    attribute_start: list[int]
    attribute_kind: list[int]
    n_rows: int
    n_samples: int
    n_proposals: int
    n_latent: int
    n_draws: int
    seed: int
    negative_slope: float
    visible_weight: float
    tolerance: float
    def __init__(self) -> None: ...

def importance_impute(arguments: ImportanceImputeArguments, n_threads: int, level: str = "") -> None: ...
def cpu_levels() -> list[str]: ...
def cpu_level() -> str: ...
def fma_peak(n_threads: int, seconds: float = 0.2, level: str = "") -> float: ...
def round_trip() -> float: ...
def conditional_means(
    n_columns: int,
    n_components: int,
    log_weight: int,
    mean: int,
    covariance: int,
    n_rows: int,
    x: int,
    observed: int,
    completed: int,
    n_threads: int,
) -> None: ...
def expected_moments(
    n_columns: int,
    n_components: int,
    log_weight: int,
    mean: int,
    covariance: int,
    n_rows: int,
    x: int,
    observed: int,
    weight: int,
    first: int,
    second: int,
    n_threads: int,
) -> None: ...
def level_probabilities(
    n_mixtures: int,
    n_classes: int,
    n_attributes: int,
    start: int,
    weight: int,
    level: int,
    n_rows: int,
    x: int,
    observed: int,
    probability: int,
    n_threads: int,
) -> None: ...
def expected_counts(
    n_classes: int,
    n_attributes: int,
    start: int,
    weight: int,
    level: int,
    n_rows: int,
    levels: int,
    class_count: int,
    level_count: int,
    log_likelihood: int,
    n_threads: int,
) -> None: ...
def along_curves(
    n_curves: int,
    n_knots: int,
    columns: int,
    start: int,
    end: int,
    n_rows: int,
    n_columns: int,
    x: int,
    n_threads: int,
) -> None: ...
def philox(key: int, low: int, third: int, fourth: int) -> list[int]: ...
def is_mirrored(noise: int, n_samples: int, n_latent: int) -> bool: ...
def normal_quantile(p: int, out: int, n: int) -> None: ...
def elementary(name: str, x: int, out: int, n: int) -> None: ...
def fill_unobserved(
    attribute_start: list[int], n_rows: int, x: int, mask: int, noise: int, noise_step: int, filled: int
) -> None: ...
def fill_unobserved_backward(
    attribute_start: list[int], n_rows: int, mask: int, gradient: int, x_gradient: int
) -> None: ...
def grouped_mlp_saved_floats(n_rows: int, n_groups: int, sizes: list[int]) -> int: ...
def grouped_mlp(
    n_rows: int,
    n_groups: int,
    sizes: list[int],
    training: bool,
    slope: float,
    x: int,
    mask: int,
    weight: list[int],
    bias: list[int],
    gamma: list[int],
    beta: list[int],
    running_mean: list[int],
    running_var: list[int],
    out: int,
    saved: int,
    n_threads: int,
) -> None: ...
def grouped_mlp_backward(
    n_rows: int,
    n_groups: int,
    sizes: list[int],
    training: bool,
    slope: float,
    x: int,
    mask: int,
    weight: list[int],
    bias: list[int],
    gamma: list[int],
    beta: list[int],
    out_gradient: int,
    saved: int,
    x_gradient: int,
    weight_gradient: list[int],
    bias_gradient: list[int],
    gamma_gradient: list[int],
    beta_gradient: list[int],
    n_threads: int,
) -> None: ...

class ElboArguments:
    n_samples: int
    n_rows: int
    n_latent: int
    attribute_start: list[int]
    attribute_kind: list[int]
    output: int
    log_scale: int
    mask_logits: int
    target: int
    target_variance: int
    mask: int
    attribute_weight: int
    mean: int
    log_variance: int
    noise: int
    def __init__(self) -> None: ...

def elbo(arguments: ElboArguments, bound: int, n_threads: int) -> None: ...
def elbo_backward(
    arguments: ElboArguments,
    bound_gradient: int,
    output: int,
    log_scale: int,
    mask_logits: int,
    mean: int,
    log_variance: int,
    n_threads: int,
) -> None: ...

class FoldedLayer:
    def __init__(self, weight: int, bias: int, n_in: int, n_out: int, activation: bool) -> None: ...

class ProposeArguments:
    n_rows: int
    n_proposals: int
    latent_per_attribute: int
    attribute_start: list[int]
    x: int
    mask: int
    fill: int
    mean: int
    scale: int
    context: int
    own: list[list[FoldedLayer]]
    body: list[FoldedLayer]
    head: list[FoldedLayer]
    context_projection: list[FoldedLayer]
    negative_slope: float
    def __init__(self) -> None: ...

def propose(arguments: ProposeArguments, n_threads: int) -> None: ...
def sample_moments(
    attribute_start: list[int],
    attribute_kind: list[int],
    n_rows: int,
    n_latent: int,
    mean: int,
    scale: int,
    context: int,
    mask_layers: list[FoldedLayer],
    data_layers: list[FoldedLayer],
    log_scale: int,
    slope: float,
    n_samples: int,
    seed: int,
    number: int,
    moment: int,
    variance: int,
    n_threads: int,
) -> int: ...

class Fill(Protocol):
    def __call__(self, seed: int, number: int, address: int, floats: int) -> None: ...

fill_uniform: Fill
fill_normal: Fill

class AttributeGroup:
    def __init__(self, kind: int, width: int, attributes: list[int]) -> None: ...

class NetworkShape:
    attribute_start: list[int]
    attribute_kind: list[int]
    groups: list[AttributeGroup]
    latent_per_attribute: int
    numerical_hidden: list[int]
    categorical_hidden: list[int]
    collective_hidden: list[int]
    mask_hidden: list[int]
    data_hidden: list[int]
    selective: bool
    deterministic: bool
    sees_mask: bool
    experts: bool
    skip: bool
    mask_context: bool
    linear_tail: bool
    noise_fill: bool
    min_scale: float
    negative_slope: float

class ObjectiveSettings:
    n_samples: int
    visible_weight: float
    hidden_low: float
    hidden_high: float
    n_unobserved_samples: int
    n_validation_draws: int
    n_subsets: int

class Trainer:
    def __init__(self, shape: NetworkShape, objective: ObjectiveSettings, max_rows: int, seed: int) -> None: ...
    def import_parameters(self, addresses: list[int]) -> None: ...
    def export_parameters(self, addresses: list[int]) -> None: ...
    def state_size(self) -> int: ...
    def export_state(self, state: int) -> tuple[int, int]: ...
    def import_state(self, state: int, steps: int, next_stream: int) -> None: ...
    def steps(
        self,
        x: int,
        mask: int,
        indices: list[int],
        sizes: list[int],
        second_phase: bool,
        learning_rates: Sequence[float],
        weight_decay: float,
        clip_norm: float,
        n_threads: int,
    ) -> list[float]: ...
    def score(self, x: int, mask: int, n: int, seed: int, score: int) -> None: ...
