"""The ops of vsae_fast as torch knows them, and which backend of each one runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

LIBRARY = torch.library.Library("vsae_fast", "DEF")
GPU_BACKENDS = ("cuda", "triton")
BACKENDS = ("auto", "cpu", *GPU_BACKENDS, "reference")

_preferred: ContextVar[str] = ContextVar("vsae_fast_backend", default="auto")


@contextmanager
def prefer(backend: str) -> Iterator[None]:
    """Inside, ops that are called with ``backend="auto"`` run on this backend; for the calling thread or task alone."""
    check_backend(backend)
    token = _preferred.set(backend)
    try:
        yield
    finally:
        _preferred.reset(token)


class Op:
    """One op: a torch schema, a plain-PyTorch reference and the C++ kernel for float32 on the CPU.

    ``torch.ops.vsae_fast.<name>`` runs the kernel, or the reference where the tensors are none of the kernel's, so
    compiled and exported graphs can hold the op; :meth:`select` serves callers that name a backend. Shapes are checked
    by the public function of each op, before any backend runs.

    Parameters
    ----------
    schema : str
        ``name(arguments) -> results`` in torch's schema language. ``Library.define`` costs 4 us a call where
        ``@custom_op`` costs 10, hence no decorator.
    reference : callable
        Runs on any device and dtype, and autograd sees through it.
    fake : callable
        Gives the shapes of the results.
    kernel : callable
        Takes float32 tensors on the CPU.
    cuda, triton : callable, optional
        Take float32 tensors on a CUDA device, and what the public function of the op gives them: torch's schema does
        not know them. They run where they are asked for by name, or preferred.
    cuda_kernel, triton_kernel : callable, optional
        Likewise, but with the arguments of ``kernel``: torch's schema knows them, and gradients flow through them.
    """

    def __init__(
        self,
        schema: str,
        reference: Callable[..., Any],
        fake: Callable[..., Any],
        kernel: Callable[..., Any],
        cuda: Callable[..., Any] | None = None,
        triton: Callable[..., Any] | None = None,
        cuda_kernel: Callable[..., Any] | None = None,
        triton_kernel: Callable[..., Any] | None = None,
    ) -> None:
        self.name = schema[: schema.index("(")]
        self.reference = reference
        self.kernel = kernel
        self.on_gpu = dict(zip(GPU_BACKENDS, (cuda, triton), strict=True))
        LIBRARY.define(schema)
        LIBRARY.impl(self.name, reference, "CompositeExplicitAutograd")
        LIBRARY.impl(self.name, self._or_reference(kernel), "CPU")
        torch.library.register_fake(f"vsae_fast::{self.name}", fake, lib=LIBRARY)
        self.dispatched: Callable[..., Any] = getattr(torch.ops.vsae_fast, self.name)
        if cuda_kernel is not None and triton_kernel is not None:
            LIBRARY.impl(self.name, self._or_reference(gpu_kernel(cuda_kernel, triton_kernel)), "CUDA")
            self.on_gpu = {backend: self._dispatched_with(backend) for backend in self.on_gpu}

    def register_autograd(self, setup_context: Callable[..., None], backward: Callable[..., Any]) -> None:
        """Give the op a backward formula, made of other ops; these run on the backend of the way forward."""
        remember, with_backend = remembering_backend(setup_context, backward)
        torch.library.register_autograd(f"vsae_fast::{self.name}", with_backend, setup_context=remember, lib=LIBRARY)

    def _or_reference(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(first: torch.Tensor, *rest: Any) -> Any:
            return (kernel if first.dtype == torch.float32 else self.reference)(first, *rest)

        return run

    def select(self, backend: str, tensor: torch.Tensor) -> Callable[..., Any]:
        """Return the implementation that ``backend`` names for tensors like ``tensor``.

        ``"auto"`` takes what :func:`prefer` set, or the kernel for float32 on the CPU where nothing is set, and the
        reference for tensors that these cannot take. A backend that was asked for by name runs or raises; it never
        falls back.

        Raises
        ------
        ValueError
            The name is unknown, or the backend cannot run on this tensor.
        """
        chosen = resolve(backend, tensor.dtype, tensor.device)
        if chosen in self.on_gpu and (backend == chosen or self.on_gpu[chosen] is not None):
            return self._gpu_kernel(chosen, tensor)
        if chosen != "cpu":
            return self.reference
        if not _fits(tensor.dtype, tensor.device):
            raise ValueError(
                f"backend='cpu' of {self.name} takes float32 tensors on the CPU, got {tensor.dtype} on "
                f"{tensor.device}; use backend='reference'"
            )
        return self.dispatched

    def _dispatched_with(self, backend: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with prefer(backend):
                return self.dispatched(*arguments)

        return run

    def _gpu_kernel(self, backend: str, tensor: torch.Tensor) -> Callable[..., Any]:
        kernel = self.on_gpu[backend]
        if kernel is None:
            raise ValueError(
                f"{self.name} has no kernel for backend={backend!r}; use backend='reference', which runs on the GPU too"
            )
        if tensor.device.type != "cuda" or tensor.dtype != torch.float32:
            raise ValueError(
                f"backend={backend!r} of {self.name} takes float32 tensors on a CUDA GPU, got {tensor.dtype} on "
                f"{tensor.device}; use backend='auto'"
            )
        return kernel


def gpu_kernel(cuda: Callable[..., Any], triton: Callable[..., Any]) -> Callable[..., Any]:
    """Whichever of the two is preferred where it is called: torch's dispatcher knows one kernel for each device."""

    def run(*arguments: Any) -> Any:
        return (triton if _preferred.get() == "triton" else cuda)(*arguments)

    return run


def remembering_backend(
    setup_context: Callable[..., None], backward: Callable[..., Any]
) -> tuple[Callable[..., None], Callable[..., Any]]:
    """A backward formula that prefers what its way forward preferred: autograd calls it from a thread of its own."""

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.backend = _preferred.get()
        setup_context(ctx, inputs, output)

    def with_backend(ctx: Any, *gradients: Any) -> Any:
        with prefer(ctx.backend):
            return backward(ctx, *gradients)

    return remember, with_backend


def resolve(backend: str, dtype: torch.dtype, device: torch.device) -> str:
    """The backend that ``backend`` means for such tensors, never ``"auto"``; see :meth:`Op.select`."""
    check_backend(backend)
    if backend != "auto":
        return backend
    preferred = _preferred.get()
    if preferred in ("auto", "cpu") and _fits(dtype, device):
        return "cpu"
    on_gpu = device.type == "cuda" and dtype == torch.float32
    return preferred if preferred in GPU_BACKENDS and on_gpu else "reference"


def _fits(dtype: torch.dtype, device: torch.device) -> bool:
    return device.type == "cpu" and dtype == torch.float32


def check_backend(backend: str) -> None:
    """Raise ValueError unless ``backend`` is a known name."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; use one of {', '.join(map(repr, BACKENDS))}")


def check_like(reference: torch.Tensor, expected: Mapping[str, tuple[torch.Tensor | None, tuple[int, ...]]]) -> None:
    """Raise ValueError unless tensors have their shapes, and dtype and device of ``reference``; None is let through."""
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != reference.dtype or tensor.device != reference.device:
            raise ValueError(
                f"{name} must be {reference.dtype} on {reference.device} like the others, got {tensor.dtype} on "
                f"{tensor.device}"
            )


class Addresses:
    """Hands addresses of tensors to the extension and keeps the tensors alive; copies what is not contiguous."""

    def __init__(self) -> None:
        self._kept: list[torch.Tensor] = []

    def __call__(self, tensor: torch.Tensor | None, dtype: torch.dtype = torch.float32) -> int:
        """Address of the tensor's values, 0 for None."""
        if tensor is None:
            return 0
        if tensor.dtype != dtype or tensor.device.type != "cpu":
            raise ValueError(f"backend='cpu' takes {dtype} tensors on the CPU, got {tensor.dtype} on {tensor.device}")
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def of(self, tensors: list[torch.Tensor]) -> list[int]:
        """Address of each."""
        return [self(tensor) for tensor in tensors]
