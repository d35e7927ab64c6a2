"""Random pipelines and schedules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from forerun.passes.infra import registry
from forerun.passes.infra.base import Pass
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.reference import ReferenceTarget
from forerun.support.options import OptionSpec, specs

__all__ = ["pipelines", "schedules"]


def pipelines(
    passes: Iterable[str | type[Pass]] | None = None, *, min_size: int = 0, max_size: int = 4, options: bool = True
) -> st.SearchStrategy[Pipeline]:
    """Pipelines of some passes in any order, repetitions included. Shrinks to fewer passes with default options.

    Args:
        passes: Names or classes; by default every pass that has a name and reads no file (nobody can make one up).
        min_size: The fewest passes.
        max_size: The most passes.
        options: Whether options are drawn (those with finitely many values, integers and numbers), or left at their
            defaults.

    Raises:
        ValueError: If one of ``passes`` needs a file: build that pass yourself, with a file that exists.

    Example:
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=5, deadline=None, database=None)
        ... @given(pipelines(["reduce-edges", "insert-pdl"], min_size=1, max_size=2))
        ... def test(pipeline):
        ...     assert 1 <= len(pipeline) <= 2
        >>> test()
    """
    chosen = registry.available().values() if passes is None else passes
    classes = [registry.get(found) if isinstance(found, str) else found for found in chosen]
    if passes is None:
        classes = [cls for cls in classes if not any(spec.is_file for spec in specs(cls))]
    for cls in classes:
        if any(spec.is_file and spec.is_required for spec in specs(cls)):
            raise ValueError(f"pass '{cls.name}' needs a file: it cannot be drawn")
    any_pass = st.one_of([_instances(cls, options=options) for cls in classes])
    return st.lists(any_pass, min_size=min_size, max_size=max_size).map(Pipeline)


def schedules(*, serial: bool = False, h6: bool = False) -> st.SearchStrategy[ReferenceTarget]:
    """Adversarial schedules, as targets to load or compile a graph for. Shrinks to small seeds.

    Args:
        serial: Whether the serial order is among them (it is what they then shrink to).
        h6: Whether triggers hold back the start of secondaries in some of them.

    Example:
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=5, deadline=None, database=None)
        ... @given(schedules())
        ... def test(target):
        ...     assert str(target).startswith("reference{schedule=adversarial")
        >>> test()
    """
    assumptions = st.booleans() if h6 else st.just(False)
    drawn = st.builds(ReferenceTarget, st.just("adversarial"), st.integers(0, 9999), assumptions)
    return st.one_of(st.just(ReferenceTarget()), drawn) if serial else drawn


def _instances(cls: type[Pass], *, options: bool) -> st.SearchStrategy[Pass]:
    drawn = {spec.name: _values(spec) for spec in specs(cls) if options or spec.is_required}
    return st.builds(cls, **drawn)


def _values(spec: OptionSpec) -> st.SearchStrategy[Any]:
    """Values of an option, its default first."""
    choices = spec.choices
    if spec.is_file:
        return st.just(spec.default)
    if choices is not None:
        values: st.SearchStrategy[Any] = st.sampled_from(list(choices.values()))
    elif spec.annotation is int:
        values = st.integers(0, 8)
    elif spec.annotation is float:
        values = st.floats(0, 1)
    else:
        values = st.sampled_from(["a", "b"]) if spec.is_required else st.nothing()
    values = values | st.none() if spec.optional else values
    return values if spec.is_required else st.just(spec.default) | values
