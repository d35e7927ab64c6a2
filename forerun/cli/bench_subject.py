"""What ``forerun bench`` measures: a graph from a file, or a model's decode step at some position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun.cli.decoding import DecodePlan
from forerun.cli.files import STANDARD, read_graph
from forerun.cli.models import BUILT_IN_MODEL, model_path
from forerun.cli.random_values import GraphWeights, random_inputs

if TYPE_CHECKING:
    from forerun.frontends.llama import LlamaConfig
    from forerun.ir.graph import Graph

__all__ = ["Subject", "subject_of"]

_POSITION = 512
_CONTEXT = 1024


@dataclass(frozen=True)
class Subject:
    """A graph with all that it takes to run it.

    Attributes:
        graph: Before all passes.
        weights: Of the graph.
        inputs: Of every step that is measured.
        position: Where a decode step stands; ``None`` for other graphs.
        steps: How many decode steps a replay is.
    """

    graph: Graph
    weights: Mapping[str, Any]
    inputs: Mapping[str, Any]
    position: int | None
    steps: int = 1


def subject_of(
    model: str | None,
    shape: str | None,
    position: int | None,
    plan: DecodePlan,
    *,
    steps: int = 1,
    talks: bool,
    verbose: bool,
) -> Subject:
    """What was asked for.

    Args:
        model: A ``.fir`` file, a ``.gguf`` file, or ``smollm2``.
        shape: The name of a shape instead.
        position: Where the step stands.
        plan: Type of matrices, and positions.
        steps: How many steps of a model a replay is.
        talks: Whether progress is shown.
        verbose: Whether all errors of a graph's text are drawn.

    Raises:
        InvalidInput: If it is not there, or the options do not fit together.
    """
    from forerun.support.diagnostics import InvalidInput

    if (model is None) == (shape is None):
        hint = f"forerun bench GRAPH.fir, forerun bench {BUILT_IN_MODEL}, or forerun bench --shape NAME"
        raise InvalidInput("name one graph, model or --shape", hint=hint)
    if shape is not None:
        from forerun.frontends.llama_config import shape_named
        from forerun.frontends.random_weights import RandomWeights

        config = shape_named(shape)
        return _step(config, lambda: RandomWeights(config, plan.dtype), position, plan, steps)
    assert model is not None
    if model == STANDARD or Path(model).suffix == ".fir":
        return _file(model, position, verbose=verbose)
    from forerun.frontends.llama import LlamaModel

    opened = LlamaModel.open(model_path(model, shown=talks))
    return _step(opened.config, lambda: opened.weights_as(plan.dtype), position, plan, steps)


def _file(name: str, position: int | None, *, verbose: bool) -> Subject:
    from forerun.ir.verify import require_valid

    graph, _ = read_graph(name, verbose=verbose)
    require_valid(graph)
    inputs = random_inputs(graph, {} if position is None else {"position": position})
    return Subject(graph, GraphWeights(graph), inputs, position)


def _step(
    config: LlamaConfig, weights: Callable[[], Mapping[str, Any]], position: int | None, plan: DecodePlan, steps: int
) -> Subject:
    from forerun.support.diagnostics import InvalidInput

    limit = (plan.context or config.context_length) - steps
    chosen = min(_POSITION, limit) if position is None else position
    if chosen > limit:
        raise InvalidInput(f"position {chosen} is out of range", hint=f"from 0 to {limit} here")
    context = plan.context or max(chosen + steps, min(_CONTEXT, config.context_length))
    graph = plan.graph(config, context, steps)
    return Subject(graph, weights(), {"token": [1], "position": [chosen]}, chosen, steps)
