"""A console of rich that shows what comes from files harmlessly, however it is rendered."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from forerun.support.escaping import visible_lines

__all__ = ["SafeConsole"]


class SafeConsole(Console):
    """Escapes in the segments that everything is rendered to: cells of tables, messages, names."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments whose text neither controls the terminal nor reorders its line."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=visible_lines(segment.text))
