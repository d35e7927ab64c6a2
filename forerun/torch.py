"""For programs in torch: ``forerun.torch.optimize`` makes a function of tensors a captured, optimized graph.

Importing this module does not import torch; calling what it has does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from forerun.support.diagnostics import InvalidInput, Unsupported

if TYPE_CHECKING:
    from forerun.external.optimized import OptimizedCall
    from forerun.passes.infra.pipeline import PipelineLike

__all__ = ["OptimizedFunction", "optimize"]

P = ParamSpec("P")
R = TypeVar("R")

_MOST_GRAPHS = 8


@overload
def optimize(
    function: Callable[P, R], /, *, pipeline: PipelineLike | None = ..., dump: str | Path | None = ...,
    max_graphs: int = ..., copy_outputs: bool = ...,
) -> OptimizedFunction[P, R]: ...  # fmt: skip


@overload
def optimize(
    *, pipeline: PipelineLike | None = ..., dump: str | Path | None = ..., max_graphs: int = ...,
    copy_outputs: bool = ...,
) -> Callable[[Callable[P, R]], OptimizedFunction[P, R]]: ...  # fmt: skip


def optimize(
    function: Callable[..., Any] | None = None,
    /,
    *,
    pipeline: PipelineLike | None = None,
    dump: str | Path | None = None,
    max_graphs: int = _MOST_GRAPHS,
    copy_outputs: bool = True,
) -> Any:
    """Let a function of tensors run as a captured graph that :func:`forerun.optimize` made faster.

    The first call with arguments of a kind (shapes, strides, types, and values of all that is not a tensor) runs the
    function three times, captures it, and optimizes the graph; later calls copy their tensors into the graph's inputs,
    and replay. It is for inference: what wants gradients is refused. Call it within or after :func:`forerun.capture`.
    All else that the function looks at is as it was at the capture: globals, attributes, where a module's parameters
    lie. Calls from several threads or streams must not overlap.

    Args:
        function: A function or module of tensors on the current GPU, in nested tuples, lists and dictionaries; it must
            not write into its arguments. Without one, a decorator is returned.
        pipeline: As for :func:`forerun.optimize`.
        dump: As for :func:`forerun.optimize`.
        max_graphs: How many kinds of arguments are captured; calls with more are refused, since each takes a minute.
        copy_outputs: Whether results are tensors of their own. Otherwise they are those of the graph, which the next
            call overwrites.

    Example::

        with forerun.capture():
            import torch

            model = torch.compile(make_model()).eval()
            step = forerun.torch.optimize(model)
            with torch.inference_mode():
                logits = step(tokens)
    """

    def wrap(function: Callable[..., Any]) -> OptimizedFunction[..., Any]:
        options = {"pipeline": pipeline, "dump": dump}
        return OptimizedFunction(function, options, max_graphs, copy_outputs)

    return wrap if function is None else wrap(function)


class OptimizedFunction(Generic[P, R]):
    """What :func:`optimize` returns: it is called as the function is.

    Attributes:
        function: The function.
        graphs: What was captured, by the kind of the arguments.
    """

    def __init__(
        self, function: Callable[P, R], options: dict[str, Any], max_graphs: int, copy_outputs: bool
    ) -> None:  # fmt: skip
        if not callable(function):
            raise InvalidInput(f"{type(function).__name__} cannot be called", hint="forerun.optimize takes graphs")
        if max_graphs < 1:
            raise InvalidInput(f"max_graphs={max_graphs}: it must be at least 1")
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.graphs: dict[object, OptimizedCall] = {}
        self._options = options
        self._max_graphs = max_graphs
        self._copy_outputs = copy_outputs

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """The function as a method."""
        return self if instance is None else functools.partial(self, instance)  # type: ignore[arg-type]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Copy the tensors into the graph's inputs, replay, and return what the function returns.

        Raises:
            InvalidInput: If tensors want gradients or lie elsewhere, other arguments cannot be told apart, or the
                function writes into its arguments.
            Unsupported: If there are too many kinds of arguments, or the function cannot be captured.
        """
        from forerun.external.torch_capture import require_inference, tensors_of, torch_module

        torch = torch_module()
        require_inference(torch, (args, kwargs), "arguments")
        key = self._kind(torch, args, kwargs)
        graph = self.graphs.get(key)
        if graph is None:
            graph = self.graphs[key] = self._captured(torch, args, kwargs)
        own = tensors_of(torch, (graph.inputs, graph.named_inputs))
        for mine, theirs in zip(own, tensors_of(torch, (args, kwargs)), strict=True):
            mine.copy_(theirs)
        graph.replay()
        if not self._copy_outputs:
            found: R = graph.outputs
            return found
        with torch.no_grad():
            copied: R = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, graph.outputs)
        return copied

    def close(self) -> None:
        """Give back all graphs; the next call captures again."""
        while self.graphs:
            self.graphs.popitem()[1].close()

    def _captured(self, torch: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OptimizedCall:
        from forerun.external.optimize import optimize as optimize_graph
        from forerun.external.optimized import OptimizedCall
        from forerun.external.torch_capture import capture_callable, tensors_of
        from forerun.runtime.cuda.capture.session import latest_session

        latest_session()  # before a long capture
        if len(self.graphs) >= self._max_graphs:
            hint = "pad the arguments to few sizes, or say max_graphs=..."
            raise Unsupported(f"it was called with more than {self._max_graphs} kinds of arguments", hint=hint)
        own = torch.utils._pytree.tree_map_only(torch.Tensor, lambda one: one.detach().clone(), (args, kwargs))
        found = capture_callable(self.function, *own)
        pairs = zip(tensors_of(torch, own), tensors_of(torch, (args, kwargs)), strict=True)
        if not all(_same_bits(torch, mine, theirs) for mine, theirs in pairs):
            hint = "forerun.optimize(function, *args) works on the arguments themselves"
            raise InvalidInput("the function writes into its arguments, which are copies here", hint=hint)
        return OptimizedCall(optimize_graph(found.graph, **self._options), found)

    def _kind(self, torch: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """What tells arguments for one graph from those for another."""
        leaves, tree = torch.utils._pytree.tree_flatten((args, kwargs))
        modes = (
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cuda"),
            torch.get_autocast_dtype("cuda"), torch.cuda.current_device(), getattr(self.function, "training", None),
        )  # fmt: skip
        key = (repr(tree), *modes, *(_leaf(torch, leaf) for leaf in leaves))
        try:
            hash(key)
        except TypeError as error:
            hint = "arguments are tensors in nested containers, and values that can be keys of a dictionary"
            raise InvalidInput(f"an argument cannot tell one graph from another: {error}", hint=hint) from error
        return key


def _leaf(torch: Any, leaf: Any) -> object:
    """What of an argument a graph depends on."""
    if isinstance(leaf, torch.Tensor):
        if leaf.layout is not torch.strided:
            raise InvalidInput(f"a tensor of the arguments has the layout {leaf.layout}", hint="make it dense")
        return type(leaf), tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device
    # 1, 1.0 and True are equal, and so are 0.0 and -0.0; functions tell them apart.
    return type(leaf), leaf.hex() if isinstance(leaf, float) else leaf


def _same_bits(torch: Any, first: Any, second: Any) -> bool:
    flat = [one.detach().contiguous().reshape(-1).view(torch.uint8) for one in (first, second)]
    return bool(torch.equal(*flat))
