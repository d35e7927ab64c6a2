"""How compiling fails: the source is wrong, or the tools are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forerun.ir.text import draw
from forerun.support.diagnostics import Diagnostic, InvalidInput, Unsupported

__all__ = ["CompileError", "ToolchainMissing"]

_MOST_DRAWN = 20


class CompileError(InvalidInput):
    """NVRTC or ptxas refused a source. Exit status 2.

    Tracebacks and commands show each error with its line. The findings are in ``diagnostics``; what the tool itself
    said is in ``log``.

    Args:
        unit: The source's name.
        diagnostics: The errors.
        texts: The texts that the errors are about, by their names.
        log: The tool's own words.
        hint: What to do next.
    """

    def __init__(
        self, unit: str, diagnostics: Sequence[Diagnostic], texts: Mapping[str, str], log: str, hint: str = ""
    ) -> None:
        count = f"{len(diagnostics)} errors" if len(diagnostics) > 1 else "an error"
        super().__init__(f"cannot compile {unit}: {count}", tuple(diagnostics), hint)
        self.unit = unit
        self.log = log
        self.drawn = _draw(diagnostics, texts)
        self.add_note(self.drawn)


class ToolchainMissing(Unsupported):
    """CUDA C++ cannot be compiled or inspected here. Exit status 3."""


def _draw(diagnostics: Sequence[Diagnostic], texts: Mapping[str, str]) -> str:
    """Each under its own text, since a unit is made of many."""
    drawn = [draw([diagnostic], texts.get(diagnostic.location.name, "")) for diagnostic in diagnostics[:_MOST_DRAWN]]
    if len(diagnostics) > _MOST_DRAWN:
        drawn.append(f"... and {len(diagnostics) - _MOST_DRAWN} more")
    return "\n\n".join(drawn)
