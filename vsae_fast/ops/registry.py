"""The ops of vsae_fast as torch knows them, and which backend of each one runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("vsae_fast", "DEF")
BACKENDS = ("auto", "cpu", "reference")


class Op:
    """One op: a torch schema, a plain-PyTorch reference and the table of faster backends.

    ``torch.ops.vsae_fast.<name>`` runs the fastest backend that fits the tensors, so compiled and exported graphs can
    hold the op; :meth:`select` serves callers that name a backend.

    Parameters
    ----------
    schema : str
        ``name(arguments) -> results`` in torch's schema language. ``Library.define`` costs 4 us a call where
        ``@custom_op`` costs 10, hence no decorator.
    reference : callable
        Runs on any device and dtype.
    fake : callable, optional
        Gives the shapes of the results. Without it the reference is registered as a composite of torch's own ops, which
        autograd and the compiler see through; with it the op is opaque to both.
    """

    def __init__(self, schema: str, reference: Callable[..., Any], fake: Callable[..., Any] | None = None) -> None:
        self.name = schema[: schema.index("(")]
        self.reference = reference
        self.backends: dict[str, Callable[..., Any]] = {"reference": reference}
        LIBRARY.define(schema)
        LIBRARY.impl(self.name, reference, "CompositeImplicitAutograd" if fake is None else "CompositeExplicitAutograd")
        if fake is not None:
            torch.library.register_fake(f"vsae_fast::{self.name}", fake, lib=LIBRARY)
        self.dispatched: Callable[..., Any] = getattr(torch.ops.vsae_fast, self.name)

    def register_cpu(self, kernel: Callable[..., Any]) -> None:
        """Add the C++ kernel for float32; other dtypes on the CPU keep the reference."""

        def float32_or_reference(first: torch.Tensor, *rest: Any) -> Any:
            return (kernel if first.dtype == torch.float32 else self.reference)(first, *rest)

        self.backends["cpu"] = kernel
        LIBRARY.impl(self.name, float32_or_reference, "CPU")

    def select(self, backend: str, tensor: torch.Tensor) -> Callable[..., Any]:
        """Return the implementation that ``backend`` names for tensors like ``tensor``.

        ``"auto"`` takes the C++ kernel for float32 on the CPU and the reference otherwise. A backend that was asked for
        by name runs or raises; it never falls back.

        Raises
        ------
        ValueError
            The name is unknown, the op has no such backend, or the backend cannot run on this tensor.
        """
        check_backend(backend)
        if backend == "auto":
            return self.dispatched
        if backend not in self.backends:
            raise ValueError(f"{self.name} has no {backend!r} backend; use one of {sorted(self.backends)}")
        if backend == "cpu" and (tensor.device.type != "cpu" or tensor.dtype != torch.float32):
            raise ValueError(
                f"backend='cpu' of {self.name} takes float32 tensors on the CPU, got {tensor.dtype} on "
                f"{tensor.device}; use backend='reference'"
            )
        return self.backends[backend]


def check_backend(backend: str) -> None:
    """Raise ValueError unless ``backend`` is a known name."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; use one of {', '.join(map(repr, BACKENDS))}")
