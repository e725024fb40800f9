"""Training through autograd, on any device: the reference, and the way to the kernels of GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from vsae_fast.models.latent_model import LatentModel
from vsae_fast.objective import Objective, evaluation_mode
from vsae_fast.ops.draws import Draws, StreamDraws, TorchDraws
from vsae_fast.ops.registry import prefer
from vsae_fast.step_graphs import StepGraphs

VALIDATION_CHUNK = 256  # rows scored at once, by the C++ trainer too


class TorchTrainer:
    """The objective through autograd, by default in torch's own ops, and torch's fused Adam.

    Parameters
    ----------
    model : LatentModel
    objective : Objective
    x : torch.Tensor, shape (N, D)
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    draws : Draws
    weight_decay : float
    clip_norm : float or None
    backend : {"reference", "auto", "cuda", "triton"}
        Of the ops.
    graphs : bool
        Whether steps are captured in CUDA graphs; ``draws`` must be :class:`~vsae_fast.ops.draws.TorchDraws`.

    Attributes
    ----------
    at_once : int
        Steps that a call of :meth:`steps` should take: one.
    """

    at_once = 1

    def __init__(
        self,
        model: LatentModel,
        objective: Objective,
        x: torch.Tensor,
        mask: torch.Tensor,
        *,
        draws: Draws,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        backend: str = "reference",
        graphs: bool = False,
    ) -> None:
        self._model, self._objective, self._x, self._mask, self._draws = model, objective, x, mask, draws
        self._clip_norm, self._backend = clip_norm, backend
        self._graphs = None
        if graphs:
            assert isinstance(draws, TorchDraws)
            self._graphs = StepGraphs(self._update, self.state, draws.generator)
        # Without weight decay it is Adam. A graph reads the learning rate where it was, so that it is a tensor there.
        rate = torch.tensor(0.0, device=x.device) if graphs else 0.0
        self._optimizer = torch.optim.AdamW(
            model.parameters(), rate, weight_decay=weight_decay, fused=True, capturable=graphs
        )

    def step(self, rows: torch.Tensor, epoch: int, learning_rate: float) -> torch.Tensor:
        """Update on the rows; return the loss before the update as a tensor, so that a GPU need not be waited for."""
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate
        self._model.train()
        if self._graphs is not None:
            return self._graphs.step(rows, epoch, self._objective.phase(epoch))
        return self._update(rows, epoch)

    def steps(self, batches: Sequence[torch.Tensor], epoch: int, learning_rates: Sequence[float]) -> list[torch.Tensor]:
        """The same of several batches, one after the other."""
        return [self.step(rows, epoch, rate) for rows, rate in zip(batches, learning_rates, strict=True)]

    def _update(self, rows: torch.Tensor, epoch: int) -> torch.Tensor:
        with prefer(self._backend):
            loss = self._objective.loss(self._model, self._x[rows], self._mask[rows], epoch, self._draws)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm, foreach=True)
        self._optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def score(self, x: torch.Tensor, mask: torch.Tensor, seed: int) -> float:
        """Mean validation score of rows, with the same noise every time."""
        draws: Draws = StreamDraws(seed)
        with evaluation_mode(self._model), prefer(self._backend):
            parts = [
                self._objective.score(self._model, x[i : i + VALIDATION_CHUNK], mask[i : i + VALIDATION_CHUNK], draws)
                for i in range(0, len(x), VALIDATION_CHUNK)
            ]
        return float(torch.cat(parts).double().mean())

    def state(self) -> dict[str, torch.Tensor]:
        """All that training goes on from, but for the generator's state where that gives the noise."""
        state = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        for i, parameter in enumerate(self._optimizer.param_groups[0]["params"]):
            state |= {f"optimizer.{i}.{name}": value for name, value in self._optimizer.state[parameter].items()}
        if isinstance(self._draws, StreamDraws):
            state["stream"] = torch.tensor(self._draws.number)
        return state

    def load_state(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Go on from what :meth:`state` gave."""
        self._model.load_state_dict(below(saved, "model."))
        for i, parameter in enumerate(self._optimizer.param_groups[0]["params"]):
            self._optimizer.state[parameter] = {
                name: value.to(parameter.device) for name, value in below(saved, f"optimizer.{i}.").items()
            }
        if isinstance(self._draws, StreamDraws):
            self._draws.number = int(saved["stream"])

    def copy_state(self) -> dict[str, torch.Tensor]:
        """The torch module's parameters and running statistics as they are now."""
        return {name: tensor.clone() for name, tensor in self._model.state_dict().items()}

    def write_back(self) -> None:
        """Nothing to do: the torch module is what is trained."""


def below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Entries whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
