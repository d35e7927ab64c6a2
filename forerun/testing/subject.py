"""What is tested: a pass, or passes one after the other, in any of the ways to name them."""

from __future__ import annotations

from typing import TypeAlias

from forerun.ir.graph import Graph
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.pipeline import Pipeline
from forerun.support.diagnostics import InternalError
from forerun.support.option_text import parse_items

__all__ = ["Subject", "applied", "is_idempotent", "pipeline_of", "with_colons"]

Subject: TypeAlias = "str | Pass | type[Pass] | Pipeline"
"""Pipeline text, a pass, the class of a pass (with its default options), or a pipeline."""


def pipeline_of(subject: Subject) -> Pipeline:
    """The pipeline that a subject stands for.

    Raises:
        InvalidInput: If it is text that is wrong.

    Example:
        >>> pipeline_of("forerun.passes.insert_pdl.InsertPdl{trigger=end}") == pipeline_of("insert-pdl{trigger=end}")
        True
    """
    if isinstance(subject, Pipeline):
        return subject
    if isinstance(subject, str):
        return Pipeline.parse(with_colons(subject))
    return Pipeline([subject() if isinstance(subject, type) else subject])


def with_colons(text: str) -> str:
    """Pipeline text in which a class may be named ``package.module.Class``, too.

    Example:
        >>> with_colons("reduce-edges, mypkg.MyPass{limit=3}")
        'reduce-edges, mypkg:MyPass{limit=3}'
    """
    for item in reversed(parse_items(text)):
        module, dot, attribute = item.name.rpartition(".")
        if dot and ":" not in item.name:
            start, stop = item.span.start, item.span.start + item.span.length
            text = f"{text[:start]}{module}:{attribute}{text[stop:]}"
    return text


def applied(pipeline: Pipeline, graph: Graph) -> Graph:
    """The graph after all passes of a pipeline, with no check but that each returns a graph.

    Raises:
        InternalError: If a pass returns something else. What a pass raises is not caught.
    """
    for subject in pipeline:
        returned: object = subject.apply(graph, PassContext(subject))
        if not isinstance(returned, Graph):
            raise InternalError(f"pass '{subject.name}' returned a {type(returned).__name__}, not a Graph")
        graph = returned
    return graph


def is_idempotent(pipeline: Pipeline) -> bool:
    """Whether a second application must change nothing.

    That is so for a single pass, unless its class says ``idempotent: ClassVar[bool] = False``. A pipeline of several
    passes may undo with one what another did, so nothing is demanded of it.
    """
    return len(pipeline) == 1 and all(subject.idempotent for subject in pipeline)
