"""Several networks of one recipe: trained side by side from their own seeds, averaged at imputation."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from tqdm.auto import tqdm

from vsae_fast.imputation import RowImputer
from vsae_fast.models.vsae import VSAE
from vsae_fast.native_training import supports
from vsae_fast.ops.importance_impute import Imputation
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import Preset
from vsae_fast.training import History, train


class StoppedError(Exception):
    """Another member failed, or the user interrupted: training ends at the next epoch."""


def train_models(
    layout: AttributeLayout,
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    seed: int,
    *,
    backend: str = "auto",
    n_threads: int = 1,
    verbose: int = 0,
) -> tuple[list[VSAE], list[History]]:
    """Train ``preset.n_models`` networks.

    With the C++ trainer members share the threads out among themselves, which scales better than threads within a step;
    results do not depend on how.

    Parameters
    ----------
    layout : AttributeLayout
    preset : Preset
    x : torch.Tensor, shape (N, D)
        Encoded rows; its device is where training runs.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    seed : int
        Member ``i`` is trained from ``seed + i``.
    backend : {"auto", "cpu", "reference"}
    n_threads : int
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    models : list of VSAE
        In evaluation mode.
    histories : list of History
    """
    models = []
    for member in range(preset.n_models):
        with torch.random.fork_rng(devices=[]):  # torch.nn draws initial parameters from the global generator
            torch.manual_seed(seed + member)
            models.append(VSAE(layout, preset.network).to(x.device))
    native = backend != "reference" and supports(models[0], preset.objective)
    n_workers = min(n_threads, len(models)) if native else 1
    stop = threading.Event()
    total = preset.plan.epochs * len(models)
    with tqdm(total=total, desc="training", unit="epoch", disable=verbose < 1) as bar:

        def progress(epoch: int, loss: float, score: float) -> None:
            del epoch
            if stop.is_set():
                raise StoppedError
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", validation=f"{score:.3f}")

        def train_member(member: int) -> History:
            generator = torch.Generator(x.device).manual_seed(seed + member)
            return train(
                models[member],
                x,
                mask,
                preset.objective,
                preset.plan,
                generator,
                progress,
                backend,
                max(n_threads // n_workers, 1),
            )

        if n_workers == 1:
            return models, [train_member(member) for member in range(len(models))]
        with ThreadPoolExecutor(n_workers) as pool:
            futures = [pool.submit(train_member, member) for member in range(len(models))]
            try:
                return models, [future.result() for future in futures]
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise


class EnsembleImputer:
    """Average of several networks' imputations; a row's result depends on nothing but the row.

    Parameters
    ----------
    members : list of RowImputer
    """

    def __init__(self, members: list[RowImputer]) -> None:
        self.members = members

    def run(self, x: torch.Tensor, mask: torch.Tensor) -> Imputation:
        """Impute rows: mean of the members' means and class probabilities.

        The log-evidence is that of the mixture of the members; the effective sample size is their mean.
        """
        results = [member.run(x, mask) for member in self.members]
        evidence = results[0].log_evidence
        for result in results[1:]:
            evidence = torch.logaddexp(evidence, result.log_evidence)
        return Imputation(
            _mean([result.imputed for result in results]),
            evidence - math.log(len(results)),
            _mean([result.effective_size for result in results]),
        )


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Mean of tensors, member after member: torch's reductions add in an order that depends on the shape."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total / len(tensors)
