"""What a pass is, and what it gets to know and to say while it runs."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from forerun.ir.graph import Graph
from forerun.support.diagnostics import Diagnostic, InternalError, Location, Severity, did_you_mean
from forerun.support.option_text import format_item
from forerun.support.options import check_values, describe, non_default_texts, option, specs, value_for_json

if TYPE_CHECKING:
    from forerun.passes.infra.tuning import Tuning

__all__ = ["PARTS", "Assessment", "Assessor", "Pass", "PassContext", "Strongest", "option", "require_name"]

PARTS = frozenset({"bodies", "dependencies", "launches", "memory", "nodes"})
"""What a pass may change: bodies of kernels, dependencies, launches, places of buffers, all else about nodes."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Pass(ABC):
    """A rewrite of graphs. Subclasses are frozen dataclasses whose fields are their options.

    A pass gets a valid graph and returns a valid graph that means the same; the manager checks both. It never changes
    the graph that it gets, and returns that very object if there is nothing to do (``graph.edit().commit()`` does).
    See docs/writing-a-pass.md.

    Attributes:
        name: How pipelines call it: lower-case words joined by hyphens.
        statistics: What it counts: a line of help by name.
        idempotent: Whether applying it to its own result changes nothing; property tests hold it to that.
        keeps_bits: Whether every result stays the same bit by bit; else each stays within the tolerance that it tells.
        changes: What it may change of a graph: some of :data:`PARTS`. Property tests hold it to that, too.
    """

    name: ClassVar[str]
    idempotent: ClassVar[bool] = True
    keeps_bits: ClassVar[bool] = True
    changes: ClassVar[frozenset[str]] = PARTS
    statistics: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        name = vars(cls).get("name")
        if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
            hint = "use lower-case words joined by hyphens, such as insert-pdl"
            raise InternalError(f"pass {cls.__qualname__}: {name!r} cannot be a name", hint=hint)
        unknown = sorted(set(cls.changes) - PARTS)
        if unknown:
            hint = did_you_mean(unknown[0], sorted(PARTS))
            raise InternalError(f"pass {cls.__qualname__} cannot change '{unknown[0]}'", hint=hint)

    def __post_init__(self) -> None:
        check_values(self, f"pass '{require_name(type(self))}'")

    @abstractmethod
    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The rewritten graph, or ``graph`` itself if there is nothing to do."""

    @classmethod
    def summary(cls) -> str:
        """What it does, in one line: the first line of its docstring."""
        lines = (inspect.cleandoc(cls.__doc__ or "")).splitlines()
        return lines[0] if lines else ""

    @classmethod
    def help(cls) -> str:
        """Name, docstring, options and statistics, for a terminal."""
        described = inspect.cleandoc(cls.__doc__ or "").replace("``", "'")
        parts = [f"{cls.name}: {described}"]
        options = describe(cls)
        if options:
            parts.append("\n".join(("Options:", *(f"  {line}" for line in options))))
        if cls.statistics:
            width = max(map(len, cls.statistics))
            rows = [f"  {name:<{width}}  {help}" for name, help in cls.statistics.items()]
            parts.append("\n".join(("Statistics:", *rows)))
        return "\n\n".join(parts)

    def options(self) -> dict[str, Any]:
        """The value of each option, as JSON has it."""
        return {spec.name: value_for_json(getattr(self, spec.name)) for spec in specs(type(self))}

    def __str__(self) -> str:
        return format_item(self.name, non_default_texts(self))


def require_name(cls: type[Pass]) -> str:
    """The name of a pass.

    Raises:
        InternalError: If the class (or a class that it extends) does not give one.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        raise InternalError(f"pass {cls.__qualname__} has no name", hint='add name: ClassVar[str] = "..."')
    return name


@dataclass(frozen=True, slots=True)
class Assessment:
    """Which candidate an assessor chose, and why (for the remarks of the pass)."""

    index: int
    reason: str


class Assessor(Protocol):
    """Knows what the IR cannot tell: registers, the order of instructions in the SASS, time.

    Targets implement it, ``forerun.compile`` hands it to the pass manager, and passes use it through
    :meth:`PassContext.choose`.
    """

    def choose(self, candidates: Sequence[Graph]) -> Assessment:
        """Choose among valid graphs that mean the same, given strongest first; the last is always acceptable."""
        ...

    def known_tuning(self, groups: Collection[str]) -> tuple[Path, Tuning] | None:
        """What was measured before on this GPU for graphs of these groups: the file, and what it says."""
        ...


class Strongest:
    """The assessor of targets without assembly or clocks: takes the first candidate."""

    def choose(self, candidates: Sequence[Graph]) -> Assessment:
        """The first candidate."""
        return Assessment(0, "nothing to assess it with")

    def known_tuning(self, groups: Collection[str]) -> tuple[Path, Tuning] | None:
        """Nothing: no time was measured."""
        return None


@dataclass
class PassContext:
    """One application of a pass: what it may ask, and what it told.

    Attributes:
        assessor: Who knows about assembly and time.
        limit: How many more changes :meth:`should_apply` grants; ``None`` is any number.
        statistics: What the pass counted so far: changes and observations, every declared name from the start.
        changes: How many changes :meth:`count` has counted.
        applications: How many times :meth:`should_apply` said yes, by rule.
        warnings: Those of the remarks that are warnings.
        path: The nodes in whose bodies it is at work, from the outermost.
        tolerance: How far results may be from those before, relative to the greatest magnitude in their buffer.
    """

    subject: Pass
    assessor: Assessor = field(default_factory=Strongest)
    limit: int | None = None
    statistics: dict[str, int] = field(init=False)
    changes: int = field(init=False, default=0)
    applications: dict[str, int] = field(init=False, default_factory=dict)
    remarks: list[Diagnostic] = field(init=False, default_factory=list)
    warnings: list[str] = field(init=False, default_factory=list)
    path: tuple[str, ...] = field(init=False, default=())
    tolerance: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.statistics = dict.fromkeys(self.subject.statistics, 0)

    def count(self, name: str, by: int = 1) -> None:
        """Count changes to the graph. A pass that counts changes and returns its input is told that it is wrong.

        Raises:
            InternalError: If the pass does not declare a statistic of that name.
        """
        self.observe(name, by)
        self.changes += by

    def observe(self, name: str, by: int = 1) -> None:
        """Count what is not a change, such as dependencies that had to stay as they are.

        Raises:
            InternalError: If the pass does not declare a statistic of that name.
        """
        if name not in self.statistics:
            hint = did_you_mean(name, self.statistics)
            raise InternalError(f"pass '{self.subject.name}' declares no statistic '{name}'", hint=hint)
        self.statistics[name] += by

    def remark(self, message: str, location: Location) -> None:
        """Tell the user what was done or not done, and where."""
        at = self._within(location) if self.path else location
        self.remarks.append(Diagnostic(self.subject.name, message, at, severity=Severity.NOTE))

    @contextmanager
    def inside(self, node: str) -> Iterator[None]:
        """Locate what is remarked within a ``with`` statement in a body of that node."""
        outer = self.path
        self.path = (*outer, node)
        try:
            yield
        finally:
            self.path = outer

    def _within(self, location: Location) -> Location:
        if location.kind in ("node", "dependency"):
            return replace(location, name="/".join((*self.path, location.name)))
        return Location("node", "/".join(self.path)) if location.kind == "graph" else location

    def warn(self, message: str, location: Location) -> None:
        """Tell the user what he asked for and does not get: a remark that is shown on the terminal, too."""
        self.remark(message, location)
        self.warnings.append(message)

    def tolerate(self, tolerance: float) -> None:
        """Tell that a change keeps results within a relative tolerance, not bit by bit; the greatest one counts."""
        self.tolerance = max(self.tolerance, tolerance)

    def choose(self, candidates: Sequence[Graph], location: Location) -> Graph:
        """The candidate that the assessor chooses; its reason becomes a remark unless it takes the strongest.

        Candidates mean the same, strongest first; the last must be acceptable without assessment.
        """
        chosen = self.assessor.choose(candidates)
        if chosen.index:
            self.remark(f"candidate {chosen.index + 1} of {len(candidates)} chosen: {chosen.reason}", location)
        return candidates[chosen.index]

    def should_apply(self, rule: str = "") -> bool:
        """Whether one more change may be made. A pass that asks before each change can be bisected to one of them.

        The rule says what kind of change it is, for the record; by default the name of the pass.
        """
        if self.limit is not None and sum(self.applications.values()) >= self.limit:
            return False
        rule = rule or self.subject.name
        self.applications[rule] = self.applications.get(rule, 0) + 1
        return True
