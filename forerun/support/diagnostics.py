"""What is wrong, where, and what to do: diagnostics as data, and the few exception types that carry them."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

from forerun.support.escaping import visible, visible_lines

__all__ = [
    "Diagnostic",
    "ForerunError",
    "ForerunWarning",
    "InternalError",
    "InvalidInput",
    "Location",
    "Refuted",
    "Severity",
    "Unsupported",
    "closest",
    "did_you_mean",
]


class Severity(enum.Enum):
    """How bad it is. Errors stop; warnings and notes do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Location:
    """Where in a graph or in a text something is.

    Attributes:
        kind: ``graph``, ``allocation``, ``buffer``, ``kernel``, ``phase``, ``node``, ``dependency`` or ``text``.
        name: The element's name; ``kernel.phase`` for a phase, ``source -> target`` for a dependency, the file's name
            for a text.
        line: One-based line for a text, else 0.
        column: One-based column for a text, else 0.
        length: Number of characters to underline.
        detail: A word in the element's text to underline, such as a parameter or a region.
    """

    kind: str
    name: str
    line: int = 0
    column: int = 0
    length: int = 1
    detail: str = ""

    def __str__(self) -> str:
        if self.kind == "text":
            return f"{self.name}:{self.line}:{self.column}"
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    Attributes:
        code: A stable identifier, such as ``G3`` (verifier invariants) or ``P1`` (syntax).
        message: One sentence, without the location.
        location: What it is about.
        hint: What to do next; empty if there is nothing to add.
        severity: Errors stop the work.
    """

    code: str
    message: str
    location: Location
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        text = visible(f"{self.severity}[{self.code}]: {self.location}: {self.message}")
        return f"{text}\n  hint: {visible(self.hint)}" if self.hint else text

    def at(self, location: Location) -> Diagnostic:
        """The same finding, with a place that is known better."""
        return replace(self, location=location)

    def to_json(self) -> dict[str, Any]:
        """The fields, as docs/cli.md describes them."""
        return {**asdict(self), "severity": str(self.severity)}


@dataclass(eq=False)
class ForerunError(Exception):
    """Base of all errors that forerun raises on purpose.

    Attributes:
        message: What went wrong, for people.
        diagnostics: The findings, if there are any.
        hint: What to do next.
    """

    message: str
    diagnostics: tuple[Diagnostic, ...] = field(default=())
    hint: str = ""

    exit_status = 4

    @property
    def is_sticky(self) -> bool:
        """Whether nothing that comes after it can work, as after some errors of a GPU."""
        return False

    def __str__(self) -> str:
        lines = [visible_lines(self.message), *(str(d) for d in self.diagnostics)]
        if self.hint:
            lines.append(f"hint: {visible(self.hint)}")
        return "\n".join(lines)


class InvalidInput(ForerunError):
    """The user's text, graph, option or file is wrong. Exit status 2."""

    exit_status = 2


class Refuted(ForerunError):
    """A graph or a rewrite was shown to be wrong. Exit status 1."""

    exit_status = 1


class Unsupported(ForerunError):
    """The request makes sense, but cannot be done here. Exit status 3."""

    exit_status = 3


class InternalError(ForerunError):
    """A pass or forerun itself misbehaved. Exit status 4."""

    exit_status = 4


class ForerunWarning(UserWarning):
    """Something that was asked for cannot be had; all else goes on."""


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``name``, or ``None`` if none is like it.

    Example:
        >>> closest("hoist-load", ["insert-pdl", "hoist-loads"])
        'hoist-loads'
    """
    # difflib is quadratic in the names' lengths, so long names and long lists are cut.
    pool = {candidate.casefold(): candidate for candidate in reversed(list(islice(candidates, 5000)))}
    found = difflib.get_close_matches(name[:200].casefold(), pool, n=1, cutoff=0.6)
    return pool[found[0]] if found else None


def did_you_mean(name: str, candidates: Iterable[str], *, sigil: str = "") -> str:
    """A hint that offers the closest valid name; if none is close, up to eight valid names."""
    pool = list(candidates)
    match = closest(name, pool)
    if match is not None:
        return f"did you mean '{sigil}{match}'?"
    if not pool:
        return "there are none"
    shown = ", ".join(sigil + c for c in pool[:8])
    return f"valid names: {shown}" + (f" and {len(pool) - 8} more" if len(pool) > 8 else "")
