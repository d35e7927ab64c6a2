"""Callables of torch's as captured graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forerun.support.diagnostics import InvalidInput, Unsupported

__all__ = ["CallableCapture", "capture_callable", "require_inference", "tensors_of", "torch_module"]

_WARM_UP = 3
"""Runs before the capture, as torch's documentation has it: libraries set themselves up, kernels are compiled."""


@dataclass(frozen=True)
class CallableCapture:
    """A callable, captured.

    Attributes:
        graph: The ``torch.cuda.CUDAGraph``.
        inputs: The arguments that it was captured with.
        named_inputs: Those that have names.
        outputs: What it returned: tensors that each replay stores into.
        kept: The callable, and where a module's parameters lie, which may get others.
    """

    graph: Any
    inputs: tuple[Any, ...]
    named_inputs: Mapping[str, Any]
    outputs: Any
    kept: tuple[Any, ...]


def torch_module() -> Any:
    """Torch.

    Raises:
        Unsupported: If it is not installed, or has no CUDA.
    """
    try:
        import torch
    except ImportError as error:
        raise Unsupported(f"torch is not installed ({error})", hint="pip install torch") from error
    if not torch.cuda.is_available():
        raise Unsupported("torch sees no CUDA GPU", hint="python -c 'import torch; torch.cuda.init()' says why")
    return torch


def tensors_of(torch: Any, tree: Any) -> list[Any]:
    """The tensors in nested tuples, lists and dictionaries."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def require_inference(torch: Any, tree: Any, what: str) -> None:
    """Refuse tensors that want gradients.

    Raises:
        InvalidInput: If there are some while gradients are recorded.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors_of(torch, tree)):
        hint = "call it within torch.no_grad() or torch.inference_mode(), or detach the tensors"
        raise InvalidInput(f"{what} of the callable want gradients, which a replay does not record", hint=hint)


def capture_callable(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallableCapture:
    """Capture what a callable does with some arguments, which become the graph's inputs.

    It runs three times on a stream of its own before; these runs change what it changes. The states of random
    number generators are put back, so that the first replay draws what the first call would have drawn.

    Raises:
        InvalidInput: If tensors want gradients, or are not on the current device.
        Unsupported: If torch or a GPU is missing, or the callable cannot be captured.
    """
    torch = torch_module()
    require_inference(torch, (args, kwargs), "arguments")
    device = torch.cuda.current_device()
    for tensor in tensors_of(torch, (args, kwargs)):
        if tensor.device.type != "cuda" or tensor.device.index != device:
            hint = f"move it: tensor.to('cuda:{device}'); what lies elsewhere would be read once, at the capture"
            raise InvalidInput(f"a tensor of the arguments is on {tensor.device}, not on cuda:{device}", hint=hint)
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    with torch.random.fork_rng(devices=[device]):
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                require_inference(torch, function(*args, **kwargs), "results")
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        try:
            with torch.cuda.graph(graph, stream=side):
                outputs = function(*args, **kwargs)
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            hint = "no synchronization, no copies to the host and no shapes from data within the callable"
            raise Unsupported(f"torch cannot capture the callable: {first}", hint=hint) from error
    state = [*function.parameters(), *function.buffers()] if isinstance(function, torch.nn.Module) else []
    return CallableCapture(graph, args, kwargs, outputs, (function, *(one.detach() for one in state)))
