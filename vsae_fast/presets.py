"""The two presets: networks, objectives and training plans by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from vsae_fast.models.config import NetworkConfig
from vsae_fast.noise import Sampler
from vsae_fast.objective import HideAndScore, Objective, TwoPhase
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.training import TrainingPlan

PresetName = Literal["auto", "paper"]
ClosedForm = Literal["gaussian", "classes"]
PRESETS: tuple[str, ...] = get_args(PresetName)


@dataclass(frozen=True)
class Preset:
    """Everything that a preset decides.

    Attributes
    ----------
    network : NetworkConfig
    objective : Objective
    plan : TrainingPlan
    n_samples : int
        Importance samples at imputation, at most.
    tolerance : float
        Where a row stops sampling; see :func:`vsae_fast.ops.importance_impute.importance_impute`.
    visible_weight : float
        Exponent of p(x_o | z) at imputation, the one of training.
    sampler : str
        Where the noise of the importance samples comes from; see :func:`vsae_fast.noise.latent_noise`.
    n_models : int
        Networks for each weight decay, each trained from its own seed; imputations are averaged.
    weight_decays : tuple of float
        Candidates; those that validation does not rule out are averaged.
    closed_form : {"gaussian", "classes"}, optional
        Whether normal distributions or latent classes are averaged with the networks, by the share that validation
        gives them.
    """

    network: NetworkConfig
    objective: Objective
    plan: TrainingPlan
    n_samples: int
    visible_weight: float
    sampler: Sampler
    n_models: int
    weight_decays: tuple[float, ...] = (0.0,)
    tolerance: float = 0.0
    closed_form: ClosedForm | None = None


def build_preset(name: str, layout: AttributeLayout, n_rows: int, n_observed: int) -> Preset:
    """Preset for a table of ``n_rows`` rows with ``n_observed`` observed cells.

    Raises
    ------
    ValueError
        Unknown name.
    """
    if name == "paper":
        return paper(layout)
    if name == "auto":
        return auto(layout, n_rows, n_observed)
    raise ValueError(f"unknown preset {name!r}; use one of {', '.join(map(repr, PRESETS))}")


BLOCK_WIDTH = 64  # numbers from which a block is more than a few columns, and asks for networks of its own
IMAGE_WIDTH = 512  # numbers from which a block counts as an image; the paper's have 784, its feature vectors 300


def widest_block(layout: AttributeLayout) -> int:
    """Numbers of the widest block; 0 where every numerical attribute is narrower than ``BLOCK_WIDTH``."""
    widths = [width for kind, width in zip(layout.kinds, layout.widths, strict=True) if kind == "numerical"]
    return max((width for width in widths if width >= BLOCK_WIDTH), default=0)


def paper(layout: AttributeLayout) -> Preset:
    """Gong et al. 2021, appendices C and D, to the letter.

    Adam at 1e-3 for 1000 epochs, or 1e-2 for 2000 where every attribute is categorical; 100 epochs of phase 1; 100
    samples of ``x_u``; 1000 importance samples. The appendix does not give the batch size (64 here), the collective
    encoder's widths (three layers of 64, or of 128 with blocks) or the Gaussian scale (learned, one per attribute).

    With blocks of 64 columns or more, such as images: encoders and data decoder of three layers of 128, 256 latents per
    attribute, Adam at 1e-4 for images and 1e-3 for feature vectors. Batch normalisation stays in the encoders, where
    the appendix prints none for images. The appendix takes the best epoch "by the validation set", not by what: the
    bound chooses it for tables, the error on hidden known attributes where there are such blocks (docs/paper.md).
    """
    widest = widest_block(layout)
    if widest:
        network = NetworkConfig(
            latent_per_attribute=256,
            numerical_hidden=(128,) * 3,
            categorical_hidden=(128,) * 3,
            collective_hidden=(128,) * 3,
            data_hidden=(128,) * 3,
        )
        plan = TrainingPlan(
            epochs=1000,
            learning_rate=1e-4 if widest >= IMAGE_WIDTH else 1e-3,
            validation_fraction=0.1,
            validate_by="hidden cells",
        )
        return Preset(network, TwoPhase(), plan, n_samples=1000, visible_weight=1.0, sampler="iid", n_models=1)
    categorical = all(kind == "categorical" for kind in layout.kinds)
    plan = TrainingPlan(
        epochs=2000 if categorical else 1000,
        learning_rate=1e-2 if categorical else 1e-3,
        validation_fraction=0.1,
    )
    return Preset(NetworkConfig(), TwoPhase(), plan, n_samples=1000, visible_weight=1.0, sampler="iid", n_models=1)


# The measured recipe (docs/accuracy.md). Weight decay falls with the number of observed cells: at 2,000 cells the
# collective network overfits without a strong one, at 100,000 it costs accuracy. Tables of one size still differ, so
# that weaker and stronger ones are trained as well; their average beats the middle one even where none is ruled out.
TARGET_STEPS = 3000
EPOCH_RANGE = (12, 200)
PATIENCE = 0.5  # of the epochs; the schedule's falling end still brings gains after long plateaus
WEIGHT_DECAY_CELLS = 7500
WEIGHT_DECAY_RANGE = (0.01, 3.0)
DECAY_FACTORS = (3.0, 1.0, 0.3, 0.1)
MANY_CELLS = 50_000  # from here on seeds agree: on mushroom one network is as good as nine, 0.2125 to 0.2123
# A row stops sampling once its values are known to this share of their predicted spread: an error of a twentieth adds
# an eighth of a per cent to the root mean squared error.
TOLERANCE = 0.05
# Of a row's observed cells, where most columns are numbers. Those that nearly follow from others are learned from rows
# in which the others are seen: 7 to 10 % less error on breast cancer, a per cent or none elsewhere. Levels gain nothing
# by that, and mushroom, the largest table of them, loses a per cent.
HIDDEN_SHARE_OF_NUMBERS = (0.15, 0.35)


# Columns up to which normal distributions are averaged with the networks: a row costs as much as their cube.
GAUSSIAN_COLUMNS = 64
# Observed cells and encoded columns up to which latent classes are; tried on 170,000 cells of 68 columns.
CLASS_CELLS, CLASS_COLUMNS = 300_000, 1000


AUTO_COLUMNS = NetworkConfig(
    numerical_hidden=(16,),
    categorical_hidden=(16,),
    collective_hidden=(128, 128),
    mask_hidden=(16,),
    data_hidden=(128,),
    linear_tail=False,
    skip=True,
    fill="zero",
    min_scale=0.05,
)
# Tables of few cells whose rows are narrower than the last hidden vector: NRMSE is 0.4 % lower with it than with the
# widths above, training and imputing take six tenths of the time. Breast cancer, whose 32 columns nearly follow from
# each other, and larger tables lose by it (white_wine half a per cent).
NARROW_CELLS = 7500
AUTO_NARROW = replace(AUTO_COLUMNS, collective_hidden=(128, 32), data_hidden=(32,))
# Chosen on 4,000 pairs of MNIST digits: more latents, wider or deeper networks gain nothing there.
AUTO_BLOCKS = replace(
    AUTO_COLUMNS,
    latent_per_attribute=8,
    numerical_hidden=(128,),
    collective_hidden=(256, 256),
)


def patience(epochs: int) -> int:
    """Epochs without a better validation score after which auto stops."""
    return max(math.ceil(PATIENCE * epochs), 1)


def auto_network(layout: AttributeLayout, n_observed: int) -> NetworkConfig:
    """The networks of ``auto``: how wide they are depends on the columns and on how many cells were observed."""
    if widest_block(layout):
        return AUTO_BLOCKS
    narrow = n_observed < NARROW_CELLS and sum(layout.widths) < min(AUTO_NARROW.data_hidden)
    return AUTO_NARROW if narrow else AUTO_COLUMNS


def hide_and_score(layout: AttributeLayout) -> HideAndScore:
    """The objective of ``auto``: how much it hides depends on what the columns are."""
    mostly_numbers = 2 * layout.kinds.count("numerical") > len(layout.kinds)
    if mostly_numbers and not widest_block(layout):
        return HideAndScore(hidden_share=HIDDEN_SHARE_OF_NUMBERS)
    return HideAndScore()


def closed_form(layout: AttributeLayout, n_observed: int) -> ClosedForm | None:
    """What ``auto`` averages with its networks: latent classes where all columns are categories."""
    if "numerical" not in layout.kinds:
        return "classes" if n_observed < CLASS_CELLS and layout.n_columns <= CLASS_COLUMNS else None
    return "gaussian" if n_observed < MANY_CELLS and layout.n_columns <= GAUSSIAN_COLUMNS else None


def auto(layout: AttributeLayout, n_rows: int, n_observed: int) -> Preset:
    """Hide-and-score with the skip path; epochs follow the rows, weight decays the observed cells."""
    batch_size = 32 if n_rows < 1000 else 64 if n_rows < 3000 else 128
    steps_per_epoch = math.ceil(n_rows / batch_size)
    epochs = min(max(math.ceil(TARGET_STEPS / steps_per_epoch), EPOCH_RANGE[0]), EPOCH_RANGE[1])
    low, high = WEIGHT_DECAY_RANGE
    objective = hide_and_score(layout)
    weight_decay = min(max(WEIGHT_DECAY_CELLS / max(n_observed, 1), low), high)
    around = DECAY_FACTORS if weight_decay > low else (1.0,)
    weight_decays = tuple(factor * weight_decay for factor in around if factor * weight_decay >= low)
    return Preset(
        network=auto_network(layout, n_observed),
        objective=objective,
        plan=TrainingPlan(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=3e-3,
            schedule="one-cycle",
            clip_norm=5.0,
            patience=patience(epochs),
        ),
        n_samples=1000,
        tolerance=TOLERANCE,
        visible_weight=objective.visible_weight,
        sampler="sobol",
        n_models=3 if n_observed < MANY_CELLS else 2,
        weight_decays=weight_decays,
        closed_form=closed_form(layout, n_observed),
    )


def with_overrides(
    preset: Preset, *, n_models: int | None, n_iter_no_change: int | None, epochs: int | None, **plan: float | None
) -> Preset:
    """Preset with what a caller sets; None leaves it as it is, and the patience follows the epochs."""
    changed: dict[str, Any] = {name: value for name, value in plan.items() if value is not None}
    if epochs is not None:
        changed["epochs"] = epochs
    if n_iter_no_change is not None:
        changed["patience"] = n_iter_no_change
    elif preset.plan.patience is not None and epochs is not None:
        changed["patience"] = patience(epochs)
    return replace(preset, plan=replace(preset.plan, **changed), n_models=n_models or preset.n_models)
