"""What ``run``, ``bench``, ``tune`` and ``export`` are about: a graph from a file, or a model's decode steps."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from forerun.cli.decoding import DecodePlan
from forerun.cli.files import STANDARD, read_graph
from forerun.cli.models import BUILT_IN_MODEL, SHAPED_MODEL, model_path, require_model
from forerun.cli.options import refuse_unused
from forerun.cli.random_values import GraphWeights, random_inputs

if TYPE_CHECKING:
    from forerun.frontends.llama import LlamaConfig
    from forerun.ir.graph import Graph
    from forerun.kernels.packing import Packing

__all__ = ["Choice", "NamedModel", "Subject"]

_POSITION = 512
_CONTEXT = 1024


@dataclass(frozen=True)
class Subject:
    """A graph with all that it takes to run it.

    Attributes:
        graph: Before all passes.
        weights: Of the graph.
        inputs: Of every replay that is measured.
        position: Where the first decode step stands; ``None`` for other graphs that were not given one.
        config: The model's shapes; ``None`` for graphs of files.
        chained: How many decode steps the graph has, each of which feeds the choice of the one before.
    """

    graph: Graph
    weights: Mapping[str, Any]
    inputs: Mapping[str, Any]
    position: int | None
    config: LlamaConfig | None = None
    chained: int = 1


@dataclass(frozen=True)
class NamedModel:
    """A model.

    Attributes:
        config: Its shapes.
        packings: Which of its matrices stay in blocks.
        weights: Makes the weights.
    """

    config: LlamaConfig
    packings: Mapping[str, Packing]
    weights: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Choice:
    """Which subject was named.

    Attributes:
        name: A ``.fir`` file, ``-``, a ``.gguf`` file, ``smollm2``; ``llama`` says nothing besides the shape.
        shape: The name of a model of which only the shapes are known; its weights are random.
    """

    name: str | None
    shape: str | None

    @classmethod
    def of(cls, ctx: typer.Context, name: str | None, shape: str | None) -> Choice:
        """From what the user gave; options that the subject has no use for are refused.

        Raises:
            InvalidInput: If that is not one subject.
        """
        from forerun.support.diagnostics import InvalidInput

        command = ctx.info_name
        if name == SHAPED_MODEL:
            if shape is None:
                from forerun.frontends.llama_config import SHAPES

                hint = f"forerun {command} --shape NAME: one of {', '.join(SHAPES)}"
                raise InvalidInput(f"model '{SHAPED_MODEL}' needs --shape", hint=hint)
            name = None
        if (name is None) == (shape is None):
            first, others = (
                ("--sample NAME", "model, --shape or --sample")
                if command == "export"
                else ("GRAPH.fir", "graph, model or --shape")
            )
            hint = f"forerun {command} {first}, forerun {command} {BUILT_IN_MODEL}, or forerun {command} --shape NAME"
            raise InvalidInput(f"name one {others}", hint=hint)
        found = cls(name, shape)
        if found.is_graph:
            refuse_unused(ctx, ("dtype", "kv_dtype", "context"), "the graph of a file has its types and positions")
        elif name is not None:
            require_model(name)
        if shape is None:
            refuse_unused(ctx, ("random_weights",), "it goes with --shape: files of models have weights")
        return found

    @property
    def is_graph(self) -> bool:
        """Whether it is a file with a graph."""
        return self.name is not None and (self.name == STANDARD or Path(self.name).suffix == ".fir")

    @property
    def words(self) -> str:
        """As on a command line."""
        return f"--shape {self.shape}" if self.name is None else shlex.quote(self.name)

    @property
    def label(self) -> str:
        """For names of folders."""
        return self.shape or ("stdin" if self.name == STANDARD else Path(str(self.name)).stem)

    def load(self, plan: DecodePlan, position: int | None, *, chained: int = 1, talks: bool, verbose: bool) -> Subject:
        """The subject, with ``chained`` decode steps from a position on, if there are positions for them.

        Raises:
            InvalidInput: If it is not there, or the position does not fit.
        """
        if self.is_graph:
            return _of_file(str(self.name), position, verbose=verbose)
        return _of_model(self.model(plan, talks=talks), plan, position, chained)

    def model(self, plan: DecodePlan, *, talks: bool) -> NamedModel:
        """The model that was named, as the plan wants it.

        Raises:
            InvalidInput: If there is no such model.
        """
        if self.shape is not None:
            from forerun.frontends.llama_config import shape_named
            from forerun.frontends.random_weights import RandomWeights

            config = shape_named(self.shape)
            return NamedModel(config, {}, lambda: RandomWeights(config, plan.dtype))
        from forerun.frontends.llama import LlamaModel

        opened = LlamaModel.open(model_path(str(self.name), shown=talks))
        packings = plan.packings(opened)
        return NamedModel(opened.config, packings, lambda: opened.weights_as(plan.dtype, packings))


def _of_file(name: str, position: int | None, *, verbose: bool) -> Subject:
    from forerun.ir.verify import require_valid

    graph, _ = read_graph(name, verbose=verbose)
    require_valid(graph)
    inputs = random_inputs(graph, {} if position is None else {"position": position})
    return Subject(graph, GraphWeights(graph), inputs, position)


def _of_model(model: NamedModel, plan: DecodePlan, position: int | None, chained: int) -> Subject:
    from forerun.support.diagnostics import InvalidInput

    config = model.config
    rows = plan.context or config.context_length
    first = min(_POSITION, max(0, rows - chained)) if position is None else position
    if first >= rows:
        raise InvalidInput(f"position {first} is out of range", hint=f"from 0 to {rows - 1} here")
    steps = min(chained, rows - first)
    context = plan.context or max(first + steps, min(_CONTEXT, config.context_length))
    graph = plan.graph(config, context, steps, model.packings)
    return Subject(graph, model.weights(), {"token": [1], "position": [first]}, first, config, steps)
