"""The scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from vsae_fast.caller_warning import warn_caller
from vsae_fast.closed_form_member import ClosedFormMember
from vsae_fast.column_names import check_columns, output_names
from vsae_fast.ensemble_training import TrainElsewhere
from vsae_fast.filling import chunks, expected_values, fill
from vsae_fast.fitted_imputer import fitted_imputer
from vsae_fast.fitting import Trained, train_ensemble
from vsae_fast.models.vsae import VSAE
from vsae_fast.monitor import CallbackSupportMixin, with_callbacks
from vsae_fast.multiple import MultipleImputation, check_n_imputations
from vsae_fast.parameters import check_parameters, self_masking_columns
from vsae_fast.self_masking import SelfMasking, term_of
from vsae_fast.table.bounds import with_bounds, without_bounds
from vsae_fast.table.column import BoolArray, FloatArray
from vsae_fast.table.containers import read_table
from vsae_fast.table.drop import drop_columns
from vsae_fast.table.encode import Float32Array, check_levels, encode
from vsae_fast.table.indicator import append_indicator
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.protocols import Table
from vsae_fast.table.schema import Schema, detect_schema
from vsae_fast.training import History


class VSAEImputer(CallbackSupportMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Imputes missing cells of mixed tables with a Variational Selective Autoencoder; a mask is 1 where observed.

    Takes NumPy arrays (numbers, times, objects), pandas, polars and Arrow tables, torch tensors and dicts of attributes
    (arrays, of which those with two or more dimensions are blocks such as images: one attribute, observed whole or not
    at all), and gives the same type back: observed cells bit-identical, names, order, dtypes and levels kept, no
    missing value left.

    Parameters
    ----------
    preset : {"auto", "paper"}
        ``"auto"`` is the recipe that measures best, ``"paper"`` follows Gong et al. (2021) to the letter.
    schema : dict of column name or position to kind, optional
        Overrides the detected kinds: ``"numerical"``, ``"integer"``, ``"boolean"`` or ``"categorical"``; dates
        and durations are told by their type.
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
    bootstrap : bool
        Train each network on rows of its own, drawn with replacement from the training rows (those of validation stay
        apart). Networks then differ as they would on another sample of the same population, and draws with them: for
        multiple imputation, with more networks (``n_models``). Single imputations become a little worse.
    epochs, batch_size, learning_rate : optional
        Override the preset's training plan. Training reports on the logger ``vsae_fast`` when it ended too early.
    n_iter_no_change : int, optional
        Training ends after so many epochs without a better validation score; half of the epochs for auto where it is
        left out, never for paper. The best epoch's parameters are kept in any case.
    max_time : float, optional
        Seconds that training takes, about. The learning rate falls in time for it, so that results are no longer the
        same on every machine.
    checkpoint_dir : path, optional
        Folder in which ``fit`` writes how far training has come, made where it is missing. A fit that was cut off and
        is called again with the same data and parameters goes on from there and ends with the same networks; other
        data or parameters are refused. Delete the folder once the imputer is saved.
    callbacks : list of callable, optional
        Each is called with an :class:`~vsae_fast.monitor.Epoch` after every epoch, from the thread that trained it, one
        at a time; that network's training ends where one returns True. Callbacks of scikit-learn's protocol are set by
        ``set_callbacks``.
    warm_start : bool
        A further ``fit`` goes on from the networks, the schema and the scaling of the one before.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; ``"auto"`` is the CPU.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        Kernels of training and imputation: C++ on the CPU, ``"cuda"`` (extra ``cuda``) and ``"triton"`` (tensor cores)
        on a GPU, ``"reference"`` is plain PyTorch. ``"auto"`` takes C++ on the CPU; on a GPU Triton's where a
        ``precision`` of tensor cores is named, else CUDA's once a small model has trained and imputed on them as in
        PyTorch, and where it does not, or they cannot run, PyTorch with a warning. What is named runs or raises.
        Neither kind has been run on a GPU yet.
    precision : {"float32", "tf32", "bfloat16"}, optional
        What products are multiplied in: float32, or on tensor cores one of the others; with ``backend="triton"`` tf32
        where it is left out.
    n_jobs : int, optional
        Threads of training and imputation; torch's setting where it is left out, -1 for all processors.
    min_value, max_value : number or time, array-like of shape (columns,), dict of column to either, optional
        Limits of imputed numbers and times; the observed range of the column where they are left out.
    handle_unknown : {"missing", "error"}
        What to do about levels that were not there at fit: treat them as missing when the row's other cells are
        imputed, with a warning, or raise.
    self_masking : list of column name or position, optional
        Numerical columns whose cells are missing because of their own value, such as high incomes: given the value, the
        other columns tell nothing about whether it is missing. Their imputations leave the observed range
        (``min_value`` and ``max_value`` hold) and are corrected by a term of the mask in the value
        (:mod:`vsae_fast.self_masking`). Name no column of which that is not known: where the other columns decide, the
        correction is wrong.
    keep_empty_features : bool
        Whether columns without any observed cell at fit stay, filled with a constant.
    add_indicator : bool
        Append a column per column that had missing cells at fit, as in scikit-learn's imputers.
    random_state : int, RandomState or None
        Decides initial parameters, batches and noise. Torch's and NumPy's global generators are left alone.
    verbose : int
        1 shows a progress bar, on a terminal or in a notebook.

    Attributes
    ----------
    schema_ : Schema
        Kind, levels and scaling of each column; print it.
    models_ : list of VSAE
        The trained networks; empty where no column could be modelled.
    history_ : list of History
        Loss and validation score per epoch of each network.
    closed_form_ : ClosedFormMember or None
        What is averaged with the networks, and its shares; None where validation gave it none. A normal distribution
        or mixtures of such, of numbers or of scores of their ranks (auto, up to 64 encoded columns and less than 50,000
        observed cells), or latent classes (auto, tables of categories of up to 1000 levels in all and less than 300,000
        observed cells).
    self_masking_ : dict of int to SelfMasking
        Terms of self-masking columns, by the column's number among those that are modelled.
    n_iter_ : int
        Epochs of the network that was trained longest.
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
        bootstrap: bool = False,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        n_iter_no_change: int | None = None,
        max_time: float | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        callbacks: list[Any] | None = None,
        warm_start: bool = False,
        device: str = "auto",
        backend: str = "auto",
        precision: str | None = None,
        n_jobs: int | None = None,
        min_value: Any = None,
        max_value: Any = None,
        handle_unknown: str = "missing",
        self_masking: Sequence[Hashable] | None = None,
        keep_empty_features: bool = True,
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
        self.bootstrap = bootstrap
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_iter_no_change = n_iter_no_change
        self.max_time = max_time
        self.checkpoint_dir = checkpoint_dir
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.device = device
        self.backend = backend
        self.precision = precision
        self.n_jobs = n_jobs
        self.min_value = min_value
        self.max_value = max_value
        self.handle_unknown = handle_unknown
        self.self_masking = self_masking
        self.keep_empty_features = keep_empty_features
        self.add_indicator = add_indicator
        self.random_state = random_state
        self.verbose = verbose

    # ---- public methods ---------------------------------------------------------------------------------------------

    @with_callbacks  # type: ignore[untyped-decorator]
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
        imputer = fitted_imputer(self) if self.models_ else None
        schema, dropped = self.schema_, self._dropped_columns()

        def draw(number: int) -> Any:
            def drawn(x: torch.Tensor, m: torch.Tensor, start: int) -> torch.Tensor:
                assert imputer is not None
                return imputer.draw(x, m, number, start, seed)

            values, n_rows = (None, None) if imputer is None else (drawn, imputer.chunk_rows)
            result, _ = fill(schema, table, observed, values, n_rows)
            return drop_columns(result, dropped)

        return MultipleImputation(draw, np.delete(~observed, dropped, axis=1), int(n_imputations))

    def score_samples(self, X: Any, mask: Any = None) -> FloatArray:
        """Log-evidence log p(x_o, m) of each row in nats, by importance sampling.

        Numerical columns count in standardised units. Shape (N,).
        """
        return self._per_row(X, mask, "log_evidence", visible_weight=1.0)

    def effective_sample_size(self, X: Any, mask: Any = None) -> FloatArray:
        """Effective number of importance samples of each row, mean over the networks. Shape (N,).

        The inverse sum of squared normalised weights (Kong 1992), with ``n_samples`` (1000 where it is left out) taken.
        A row far below the others is one that the encoders know little about.
        """
        return self._per_row(X, mask, "effective_size")

    def embed(self, X: Any, mask: Any = None) -> Float32Array:
        """Means of the first network's proposals of z, shape (N, L); no columns where nothing could be modelled."""
        table, observed = self._read_known(X, mask)
        if not self.models_:
            return np.empty((table.shape[0], 0), dtype=np.float32)
        first = fitted_imputer(self).members[0]
        parts = [first.latent_means(chunk.x, chunk.mask) for chunk in chunks(self.schema_, table, observed)]
        return torch.cat(parts).numpy()

    def score(self, X: Any, y: Any = None, mask: Any = None) -> float:
        """Mean log-evidence of the rows; higher is better."""
        return float(self.score_samples(X, mask).mean())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray[Any, np.dtype[np.object_]]:
        """Names of the columns of ``transform``'s result."""
        check_is_fitted(self)
        return output_names(self, input_features, self._dropped_columns(), self._indicator_columns())

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

    def _fit(self, X: Any, mask: Any, elsewhere: Callable[..., TrainElsewhere] | None = None) -> None:
        device = check_parameters(self)
        table = read_table(X)
        before: list[VSAE] = getattr(self, "models_", []) if self.warm_start else []
        if before:
            check_columns(self, X, table.names, reset=False)
        observed = observed_cells(table, mask)
        columns = table.columns()
        schema = self.schema_ if before else detect_schema(columns, observed, self.schema)
        masked = self_masking_columns(schema, observed, self.self_masking)
        schema = with_bounds(without_bounds(schema, masked), self.min_value, self.max_value)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        trained = None
        if schema.modelled:
            x, m, _ = encode(schema, columns, observed)
            rows = torch.from_numpy(x).to(device), torch.from_numpy(m).to(device)
            trained = train_ensemble(
                self, schema.layout(), rows, seed, before, None if elsewhere is None else elsewhere(*rows)
            )
        # Nothing of a fitted imputer changes before this point, and a fit that fails behind it leaves it as it was.
        before_fit = dict(self.__dict__)
        try:
            check_columns(self, X, table.names, reset=True)
            self.schema_: Schema = schema
            self.seed_: int = seed
            self.had_missing_: list[bool] = [not bool(column.all()) for column in observed.T]
            self._keep(trained)
            self.self_masking_: dict[int, SelfMasking] = {}
            for attribute in (schema.modelled.index(j) for j in masked):
                column = schema.layout().starts[attribute]
                term = term_of(lambda *cells: fitted_imputer(self).run(*cells).imputed, *rows, attribute, column, seed)
                self.self_masking_[attribute] = term
        except BaseException:
            self.__dict__ = before_fit
            raise
        if not self.keep_empty_features and self._dropped_columns():
            names = ", ".join(str(table.names[j]) for j in self._dropped_columns())
            warn_caller(f"columns without any observed cell are left out of the result: {names}")

    def _keep(self, trained: Trained | None) -> None:
        """Take over what was trained; nothing was where no column could be modelled."""
        self.models_: list[VSAE] = []
        self.history_: list[History] = []
        self.closed_form_: ClosedFormMember | None = None
        if trained is not None:
            self.models_, self.history_, self.closed_form_ = trained.models, trained.histories, trained.closed_form
            self.default_n_samples_: int = trained.preset.n_samples
            self.visible_weight_: float = trained.preset.visible_weight
            self.default_sampler_: str = trained.preset.sampler
            self.default_tolerance_: float = trained.preset.tolerance
        self.n_iter_: int = max((len(history.epoch) for history in self.history_), default=0)

    def _read_known(self, X: Any, mask: Any) -> tuple[Table, BoolArray]:
        """Check a table that must have the columns of fit, before any of it is imputed."""
        check_is_fitted(self)
        table = read_table(X)  # is it a table at all? That error comes before the ones about its columns
        check_columns(self, X, table.names, reset=False)
        observed = observed_cells(table, mask)
        if self.handle_unknown == "error":
            check_levels(self.schema_, table.columns(), observed)
        return table, observed

    def _complete(self, table: Table, observed: BoolArray) -> Any:
        """Complete a table that has been checked; warn of levels that were not there at fit."""
        imputer = fitted_imputer(self) if self.models_ else None
        values, n_rows = (None, None) if imputer is None else (expected_values(imputer), imputer.chunk_rows)
        result, unseen = fill(self.schema_, table, observed, values, n_rows)
        if unseen:
            counts = ", ".join(f"{name} ({count} cells)" for name, count in unseen.items())
            warn_caller(f"levels not seen at fit are treated as missing: {counts}")
        result = drop_columns(result, self._dropped_columns())
        if self.add_indicator:
            names: list[Hashable] = [f"missingindicator_{table.names[j]}" for j in self._indicator_columns()]
            result = append_indicator(result, names, ~observed[:, self._indicator_columns()])
        return result

    def _per_row(self, X: Any, mask: Any, field: str, **options: Any) -> FloatArray:
        """One field of the imputation of every row; all samples are taken."""
        table, observed = self._read_known(X, mask)
        values = np.zeros(table.shape[0])
        if self.models_:
            imputer = fitted_imputer(self, tolerance=0.0, **options)
            for chunk in chunks(self.schema_, table, observed, imputer.chunk_rows):
                result = getattr(imputer.run(chunk.x, chunk.mask), field)
                values[chunk.start : chunk.start + len(result)] = result.numpy()
        return values

    def _dropped_columns(self) -> list[int]:
        if self.keep_empty_features:
            return []
        return [j for j, column in enumerate(self.schema_.columns) if column.role == "empty"]

    def _indicator_columns(self) -> list[int]:
        return [j for j, hole in enumerate(self.had_missing_) if hole] if self.add_indicator else []

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
