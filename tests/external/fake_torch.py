"""The parts of torch that captures of callables use: tensors of NumPy, and graphs that record what is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FakeTorch", "Tensor"]


class Device(NamedTuple):
    type: str
    index: int

    def __str__(self) -> str:
        return f"{self.type}:{self.index}"


class Tensor:
    """A tensor; what is computed within a capture is only recorded."""

    recording: CUDAGraph | None = None
    layout = "strided"

    def __init__(self, data: Any, device: str = "cuda:0", requires_grad: bool = False) -> None:
        self.data = np.array(data)
        self.device = Device(device[:-2], int(device[-1]))
        self.requires_grad = requires_grad

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)

    def stride(self) -> tuple[int, ...]:
        return self.data.strides

    @staticmethod
    def computed(work: Callable[..., Any], *tensors: Tensor) -> Tensor:
        made = Tensor(work(*(one.data for one in tensors)), requires_grad=any(one.requires_grad for one in tensors))
        if Tensor.recording is not None:
            made.data[...] = -1
            Tensor.recording.steps.append(lambda: made.store(work(*(one.data for one in tensors))))
        return made

    def store(self, data: Any) -> None:
        self.data[...] = data

    def __mul__(self, factor: float) -> Tensor:
        return Tensor.computed(lambda one: one * factor, self)

    def __add__(self, other: Tensor) -> Tensor:
        return Tensor.computed(lambda a, b: a + b, self, other)

    def add_(self, number: float) -> Tensor:
        if Tensor.recording is None:
            self.data += number
        return self

    def copy_(self, other: Tensor) -> None:
        self.store(other.data)

    def detach(self) -> Tensor:
        return self

    def clone(self) -> Tensor:
        return Tensor(self.data, str(self.device))

    def contiguous(self) -> Tensor:
        return self

    def reshape(self, size: int) -> Tensor:
        return Tensor(self.data.reshape(size))

    def view(self, dtype: Any) -> Tensor:
        return Tensor(self.data.view(dtype))


class CUDAGraph:
    """As torch's with ``keep_graph=True``."""

    def __init__(self, keep_graph: bool = False) -> None:
        assert keep_graph
        self.steps: list[Callable[[], None]] = []
        self.replays = 0

    def raw_cuda_graph(self) -> int:
        return id(self)

    def replay(self) -> None:
        self.replays += 1
        for step in self.steps:
            step()


def flatten(tree: Any) -> tuple[list[Any], str]:
    """The leaves, and what is around them."""
    if isinstance(tree, dict):
        parts = [(repr(key), *flatten(value)) for key, value in tree.items()]
    elif isinstance(tree, (list, tuple)):
        parts = [("", *flatten(value)) for value in tree]
    else:
        return [tree], "*"
    around = ", ".join(f"{key}{inner}" for key, _, inner in parts)
    return [leaf for _, leaves, _ in parts for leaf in leaves], f"{type(tree).__name__}({around})"


def tree_map_only(kind: type, work: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: tree_map_only(kind, work, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(tree_map_only(kind, work, value) for value in tree)
    return work(tree) if isinstance(tree, kind) else tree


class Module:
    """As ``torch.nn.Module``."""

    training = False

    def __call__(self, *args: Any) -> Any:
        return self.forward(*args)  # type: ignore[attr-defined]

    def parameters(self) -> list[Tensor]:
        return [one for one in vars(self).values() if isinstance(one, Tensor)]

    def buffers(self) -> list[Tensor]:
        return []


class FakeTorch(ModuleType):
    """The module. ``forks`` counts how often the state of generators was put back."""

    Tensor = Tensor
    strided = "strided"
    uint8 = np.uint8
    nn = SimpleNamespace(Module=Module)
    __file__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__("torch")
        self.forks = 0
        self.grad = self.inference = self.autocast = False
        self.refuses = ""
        self.utils = SimpleNamespace(
            _pytree=SimpleNamespace(
                tree_flatten=flatten, tree_leaves=lambda tree: flatten(tree)[0], tree_map_only=tree_map_only
            )
        )
        self.random = SimpleNamespace(fork_rng=self._fork)
        self.cuda = SimpleNamespace(
            is_available=lambda: True, current_device=lambda: 0, CUDAGraph=CUDAGraph, graph=self._graph,
            Stream=lambda: SimpleNamespace(wait_stream=lambda other: None), stream=lambda one: nullcontext(),
            current_stream=lambda: SimpleNamespace(wait_stream=lambda other: None, cuda_stream=0),
        )  # fmt: skip

    def is_grad_enabled(self) -> bool:
        return self.grad

    def is_inference_mode_enabled(self) -> bool:
        return self.inference

    def is_autocast_enabled(self, kind: str) -> bool:
        return self.autocast

    def get_autocast_dtype(self, kind: str) -> str:
        return "bfloat16"

    def no_grad(self) -> Any:
        return nullcontext()

    def clone(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def equal(self, first: Tensor, second: Tensor) -> bool:
        return bool(np.array_equal(first.data, second.data))

    @contextmanager
    def _fork(self, devices: list[int]) -> Iterator[None]:
        self.forks += 1
        yield

    @contextmanager
    def _graph(self, graph: CUDAGraph, stream: Any) -> Iterator[None]:
        if self.refuses:
            raise RuntimeError(self.refuses)
        Tensor.recording = graph
        try:
            yield
        finally:
            Tensor.recording = None
