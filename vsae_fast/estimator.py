"""The scikit-learn estimator."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from vsae_fast import tensor_core
from vsae_fast.calibration import spread_factors
from vsae_fast.caller_warning import warn_caller
from vsae_fast.cuda import compiler
from vsae_fast.ensemble import EnsembleImputer, train_models
from vsae_fast.imputation import CHUNK_ROWS, RowImputer, check_fills
from vsae_fast.models.vsae import VSAE
from vsae_fast.multiple import MultipleImputation, check_n_imputations
from vsae_fast.noise import check_sampler
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.registry import check_backend
from vsae_fast.presets import PRESETS, Preset, build_preset
from vsae_fast.table.column import BoolArray
from vsae_fast.table.containers import Table, read_table
from vsae_fast.table.decode import decode
from vsae_fast.table.encode import Float32Array, encode
from vsae_fast.table.indicator import append_indicator
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.schema import Schema, detect_schema
from vsae_fast.training import History

logger = logging.getLogger("vsae_fast")


class VSAEImputer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Imputes missing cells of mixed tables with a Variational Selective Autoencoder; a mask is 1 where observed.

    Takes NumPy arrays (numeric or of objects), pandas, polars and Arrow tables and torch tensors, and gives the same
    type back: observed cells bit-identical, names, order, dtypes and levels kept, no missing value left.

    Parameters
    ----------
    preset : {"auto", "paper"}
        ``"auto"`` is the recipe that measures best, ``"paper"`` follows Gong et al. (2021) to the letter.
    schema : dict of column name or position to kind, optional
        Overrides the detected kinds: ``"numerical"``, ``"integer"``, ``"boolean"`` or ``"categorical"``.
    n_samples : int, optional
        Importance samples per row; at most 1000 where it is left out.
    sampler : {"sobol", "antithetic", "iid"}, optional
        Where the samples' noise comes from: scrambled Sobol points (auto's), whose error is a fifth of that of
        independent samples (paper's), or pairs of opposite samples.
    n_fills : int
        Noise fills of a row's holes (of networks that have them, as the paper's); each is a proposal of its own and
        takes an equal share of the samples.
    tolerance : float, optional
        A row stops sampling once the standard error of each of its imputed values is below this share of the value's
        predicted spread (see :func:`vsae_fast.ops.importance_impute.importance_impute`); 0 takes all samples. Where it
        is left out, ``n_samples`` fixes the number of samples if it is given; otherwise auto stops at 0.05.
    n_models : int, optional
        Networks for each candidate weight decay, each from its own seed; imputations of those that validation does not
        rule out are averaged. The preset's (3 for auto, 2 on tables of 50,000 observed cells or more; 1 for paper)
        where it is left out; 1 is up to three times as fast and a little less accurate.
    epochs, batch_size, learning_rate : optional
        Override the preset's training plan. Training reports on the logger ``vsae_fast`` when it ended too early.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; ``"auto"`` is the CPU.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        Kernels of training and imputation: ``"auto"`` takes C++ on the CPU, ``"reference"`` is plain PyTorch.
        ``"cuda"`` (extra ``cuda``) and ``"triton"`` (tensor cores) sample with the kernels for GPUs: all ``n_samples``,
        no draws. Neither has been run on a GPU yet.
    n_jobs : int, optional
        Threads of training and imputation; torch's setting where it is left out, -1 for all processors.
    add_indicator : bool
        Append a column per column that had missing cells at fit, as in scikit-learn's imputers.
    random_state : int, RandomState or None
        Decides initial parameters, batches and noise. Torch's and NumPy's global generators are left alone.
    verbose : int
        1 shows a progress bar.

    Attributes
    ----------
    schema_ : Schema
        Kind, levels and scaling of each column; print it.
    models_ : list of VSAE
        The trained networks; empty where no column could be modelled.
    history_ : list of History
        Loss and validation score per epoch of each network.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X has string column names.

    References
    ----------
    Gong, Hajimirsadeghi, He, Durand, Mori. Variational Selective Autoencoder: Learning from Partially-Observed
    Heterogeneous Data. AISTATS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from vsae_fast import VSAEImputer
    >>> X = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 6.0], [4.0, 8.0]])
    >>> VSAEImputer(epochs=1, random_state=0).fit_transform(X).shape
    (4, 2)
    """

    def __init__(
        self,
        *,
        preset: str = "auto",
        schema: Mapping[Any, str] | None = None,
        n_samples: int | None = None,
        sampler: str | None = None,
        n_fills: int = 1,
        tolerance: float | None = None,
        n_models: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        device: str = "auto",
        backend: str = "auto",
        n_jobs: int | None = None,
        add_indicator: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.preset = preset
        self.schema = schema
        self.n_samples = n_samples
        self.sampler = sampler
        self.n_fills = n_fills
        self.tolerance = tolerance
        self.n_models = n_models
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.backend = backend
        self.n_jobs = n_jobs
        self.add_indicator = add_indicator
        self.random_state = random_state
        self.verbose = verbose

    # ---- public methods ---------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, mask: Any = None) -> VSAEImputer:
        """Learn the schema and train the model.

        Parameters
        ----------
        X : table, shape (N, columns)
            NaN, None and NA are always missing.
        y : ignored
        mask : array or frame of bool or 0/1, shape (N, columns), optional
            1 = observed.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Input that cannot be imputed; the message names the column or argument and the remedy.
        """
        self._fit(X, mask)
        return self

    def transform(self, X: Any, mask: Any = None) -> Any:
        """Complete a table with the trained model.

        Parameters
        ----------
        X : table, shape (N, columns)
            Same columns as at fit. Levels that were not there at fit are left as they are and treated as missing
            when other cells of the row are imputed.
        mask : array or frame of bool or 0/1, shape (N, columns), optional
            1 = observed.

        Returns
        -------
        table of the type of X
        """
        table, observed = self._read_known(X, mask)
        return self._complete(table, observed)

    def fit_transform(self, X: Any, y: Any = None, mask: Any = None) -> Any:
        """Train on a table and complete it: ``fit(X, mask=mask).transform(X, mask=mask)``."""
        self.fit(X, y, mask=mask)
        return self.transform(X, mask=mask)

    def sample(
        self, X: Any, n_imputations: int = 50, mask: Any = None, *, random_state: Any = None
    ) -> MultipleImputation:
        """Draw several completions of a table, for estimates that must know how uncertain its holes are.

        :meth:`transform` gives expected values, whose spread is too small; draws have that of the data.

        Parameters
        ----------
        X : table, shape (N, columns)
            Same columns as at fit; kept by reference and drawn from later, so do not change it.
        n_imputations : int
        mask : array or frame of bool or 0/1, shape (N, columns), optional
            1 = observed.
        random_state : int, RandomState or None
            Of the draws, the fitted imputer's own where it is left out; a row's draws depend on it, on the row's
            position and on the row alone.

        Returns
        -------
        MultipleImputation
            Sequence of tables of the type of X, each cell a draw from the distribution of the hidden value given what
            is observed; drawn when they are asked for. Pool what is estimated from them with :func:`vsae_fast.pool`.
        """
        check_n_imputations(n_imputations)
        table, observed = self._read_known(X, mask)
        seed = self.seed_ if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))
        imputer = self._imputer() if self.models_ else None
        schema = self.schema_

        def draw(number: int) -> Any:
            def drawn(x: torch.Tensor, m: torch.Tensor, start: int) -> torch.Tensor:
                assert imputer is not None
                return imputer.draw(x, m, number, start, seed)

            return _fill(schema, table, observed, drawn if imputer is not None else None)[0]

        return MultipleImputation(draw, ~observed, int(n_imputations))

    def score_samples(self, X: Any, mask: Any = None) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Log-evidence log p(x_o, m) of each row in nats, by importance sampling.

        Numerical columns count in standardised units. Shape (N,).
        """
        table, observed = self._read_known(X, mask)
        evidence = np.zeros(table.shape[0])
        if not self.models_:
            return evidence
        imputer = self._imputer(visible_weight=1.0, tolerance=0.0)
        for start in range(0, table.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            x, m, _ = encode(self.schema_, table.rows(start, start + CHUNK_ROWS).columns(), observed[rows])
            evidence[rows] = imputer.run(torch.from_numpy(x), torch.from_numpy(m)).log_evidence.numpy()
        return evidence

    def score(self, X: Any, y: Any = None, mask: Any = None) -> float:
        """Mean log-evidence of the rows; higher is better."""
        return float(self.score_samples(X, mask).mean())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray[Any, np.dtype[np.object_]]:
        """Names of the columns of ``transform``'s result."""
        check_is_fitted(self)
        fitted = getattr(self, "feature_names_in_", None)
        if input_features is None:
            names = list(fitted) if fitted is not None else [f"x{j}" for j in range(self.n_features_in_)]
        else:
            names = list(input_features)
            if fitted is not None and names != list(fitted):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(names) != self.n_features_in_:
                raise ValueError(
                    f"input_features should have length equal to number of features ({self.n_features_in_}), "
                    f"got {len(names)}"
                )
        indicated = [f"missingindicator_{names[j]}" for j in self._indicator_columns()]
        return np.asarray([*names, *indicated], dtype=object)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted imputer to one safetensors file; see :func:`vsae_fast.files.save`."""
        from vsae_fast.files import save

        check_is_fitted(self)
        save(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VSAEImputer:
        """Read an imputer that :meth:`save` wrote; runs no code of the file."""
        from vsae_fast.files import load

        return load(path)

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _fit(self, X: Any, mask: Any) -> None:
        device = self._check_parameters()
        table = read_table(X)
        observed = observed_cells(table, mask)
        columns = table.columns()
        schema = detect_schema(columns, observed, self.schema)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        models: list[VSAE] = []
        histories: list[History] = []
        if schema.modelled:
            x, m, _ = encode(schema, columns, observed)
            preset = self._preset(schema.layout(), m)
            check_fills(self.n_fills, preset.network)
            models, histories = train_models(
                schema.layout(),
                preset,
                torch.from_numpy(x).to(device),
                torch.from_numpy(m).to(device),
                seed,
                backend=self.backend,
                n_threads=self._n_threads(),
                verbose=self.verbose,
            )
            self.default_n_samples_: int = preset.n_samples
            self.visible_weight_: float = preset.visible_weight
            self.default_sampler_: str = preset.sampler
            self.default_tolerance_: float = preset.tolerance
        # Nothing of a fitted imputer changes before this point: a failed fit leaves it as it was.
        validate_data(self, X, reset=True, skip_check_array=True)  # records names and number of columns
        self.schema_: Schema = schema
        self.seed_: int = seed
        self.had_missing_: list[bool] = [not bool(column.all()) for column in observed.T]
        self.models_: list[VSAE] = models
        self.history_: list[History] = histories

    def _read_known(self, X: Any, mask: Any) -> tuple[Table, BoolArray]:
        """Check a table that must have the columns of fit, before any of it is imputed."""
        check_is_fitted(self)
        table = read_table(X)  # is it a table at all? That error comes before the ones about its columns
        validate_data(self, X, reset=False, skip_check_array=True)
        return table, observed_cells(table, mask)

    def _complete(self, table: Table, observed: BoolArray) -> Any:
        """Complete a table that has been checked; warn of levels that were not there at fit."""
        imputer = self._imputer() if self.models_ else None

        def expected(x: torch.Tensor, m: torch.Tensor, start: int) -> torch.Tensor:
            del start
            assert imputer is not None
            return _impute_rows(imputer, x, m)

        result, unseen = _fill(self.schema_, table, observed, expected if imputer is not None else None)
        if unseen:
            counts = ", ".join(f"{name} ({count} cells)" for name, count in unseen.items())
            warn_caller(f"levels not seen at fit are treated as missing: {counts}")
        if self.add_indicator:
            names: list[Hashable] = [f"missingindicator_{table.names[j]}" for j in self._indicator_columns()]
            result = append_indicator(result, names, ~observed[:, self._indicator_columns()])
        return result

    def _imputer(self, visible_weight: float | None = None, tolerance: float | None = None) -> EnsembleImputer:
        device = self._check_parameters()
        if tolerance is None:
            tolerance = self.tolerance
        if tolerance is None:
            tolerance = self.default_tolerance_ if self.n_samples is None else 0.0
        return EnsembleImputer(
            [
                RowImputer(
                    model.to(device),
                    seed=self.seed_ + member,
                    n_samples=self.n_samples or self.default_n_samples_,
                    visible_weight=self.visible_weight_ if visible_weight is None else visible_weight,
                    sampler=self.sampler or self.default_sampler_,
                    n_fills=self.n_fills,
                    tolerance=tolerance,
                    backend=self.backend,
                    n_threads=self._n_threads(),
                )
                for member, model in enumerate(self.models_)
            ],
            self._draw_spread(),
        )

    def _draw_spread(self) -> torch.Tensor:
        layout = self.schema_.layout()
        numerical = torch.tensor([kind == "numerical" for kind in layout.kinds])
        known = [history.spread for history in self.history_ if history.spread is not None]
        return spread_factors(known, numerical[layout.column_attribute(torch.device("cpu"))])

    def _n_threads(self) -> int:
        if self.n_jobs is None:
            return torch.get_num_threads()
        return self.n_jobs if self.n_jobs > 0 else (os.cpu_count() or 1)

    def _preset(self, layout: AttributeLayout, mask: Float32Array) -> Preset:
        preset = build_preset(self.preset, layout, mask.shape[0], int(mask.sum()))
        plan = preset.plan
        if self.epochs is not None:
            plan = replace(plan, epochs=self.epochs)
        if self.batch_size is not None:
            plan = replace(plan, batch_size=self.batch_size)
        if self.learning_rate is not None:
            plan = replace(plan, learning_rate=self.learning_rate)
        return replace(preset, plan=plan, n_models=self.n_models or preset.n_models)

    def _indicator_columns(self) -> list[int]:
        return [j for j, hole in enumerate(self.had_missing_) if hole] if self.add_indicator else []

    def _check_parameters(self) -> torch.device:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}; use one of {', '.join(map(repr, PRESETS))}")
        check_backend(self.backend)
        device = resolve_device(self.device)
        if self.backend in ("cuda", "triton"):
            if device.type != "cuda":
                raise ValueError(f"backend={self.backend!r} needs device='cuda', got device={self.device!r}")
            (compiler if self.backend == "cuda" else tensor_core).check_device(device)
        if self.schema is not None and not isinstance(self.schema, Mapping):
            raise ValueError(f"schema must be a dict of column to kind, got {type(self.schema).__name__}")
        if self.sampler is not None:
            check_sampler(self.sampler)
        tolerance: Any = self.tolerance
        if tolerance is not None and (isinstance(tolerance, str) or not 0 <= tolerance < math.inf):
            raise ValueError(f"tolerance must be a number of at least 0, got {self.tolerance!r}")
        for name, least in (("n_samples", 1), ("n_fills", 1), ("n_models", 1), ("epochs", 0), ("batch_size", 2)):
            value = getattr(self, name)
            if (value is not None or name == "n_fills") and (
                isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least
            ):
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate!r}")
        if self.n_jobs is not None and (self.n_jobs == 0 or self.n_jobs < -1):
            raise ValueError(f"n_jobs must be a positive integer or -1, got {self.n_jobs!r}")
        return device

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


Values = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # of encoded rows, masks and the first row's number


def _fill(schema: Schema, table: Table, observed: BoolArray, values: Values | None) -> tuple[Any, Counter[str]]:
    """Fill the holes of a checked table, a chunk of rows at a time: memory beside the result stays small.

    ``values`` gives standardised values and probabilities (N, D), None where no column is modelled. Returns the
    complete table and, by column, how many cells held a level that was not there at fit.
    """
    unseen: Counter[str] = Counter()
    writer = table.writer()
    for start in range(0, table.shape[0], CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        columns = table.rows(start, start + CHUNK_ROWS).columns()
        missing = ~observed[rows]
        filled = np.empty((len(missing), 0), dtype=np.float32)
        if values is not None:
            x, m, unknown = encode(schema, columns, observed[rows])
            unseen.update(unknown)
            filled = values(torch.from_numpy(x), torch.from_numpy(m), start).numpy()
        writer.write(start, missing, decode(schema, columns, missing, filled))
    return writer.result(), unseen


def _impute_rows(imputer: EnsembleImputer, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """Expected values (N, D) of the rows that have a hole; the others come back as they are."""
    rows = torch.nonzero((m == 0).any(dim=1))[:, 0]
    x[rows] = imputer.run(x[rows], m[rows]).imputed
    return x


def resolve_device(device: str) -> torch.device:
    """Torch device for ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<number>"``.

    Raises
    ------
    ValueError
        Unknown name, or a GPU that is not there.
    """
    if device == "auto":
        return torch.device("cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:<number>'") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:<number>'")
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device={device!r}, but torch sees no CUDA GPU; install a CUDA build or use device='cpu'")
        if resolved.index is not None and resolved.index >= torch.cuda.device_count():
            raise ValueError(f"device={device!r}, but there are only {torch.cuda.device_count()} GPU(s)")
    return resolved
