"""Progress of what takes longer than a second: a line on a terminal's standard error, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any

from forerun.cli.console import error_console
from forerun.support.escaping import visible

if TYPE_CHECKING:
    from rich.progress import Progress as Display

    from forerun.passes.instrument import Instrument

__all__ = ["Progress", "pass_progress", "progress"]

DELAY = 0.5
"""Seconds before the line appears: what is over by then needs none."""


class Progress:
    """What is being done and, if it is known, how much of it; tell by calling it."""

    def __init__(self, what: str) -> None:
        self._state: dict[str, Any] = {"description": visible(what), "completed": 0, "total": None}
        self._display: Display | None = None
        self._lock = Lock()
        self._is_over = False

    def __call__(self, what: str | None = None, *, done: float | None = None, total: float | None = None) -> None:
        """Tell how far it is. Of something new, what there is to do is not known until it is said."""
        if what is not None:
            self._state = {"description": visible(what), "completed": 0, "total": None}
        given = {"completed": done, "total": total}
        self._state |= {name: value for name, value in given.items() if value is not None}
        with self._lock:
            if self._display is not None:
                self._display.update(self._display.task_ids[0], **self._state)

    def begin(self) -> None:
        """Show the line, unless all is over."""
        from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
        from rich.text import Text

        class Bar(BarColumn):
            def render(self, task: Task) -> Any:
                return Text("") if task.total is None else super().render(task)

        class Count(TextColumn):
            def render(self, task: Task) -> Text:
                return Text("" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}")

        what = TextColumn("{task.description}", markup=False)
        columns = SpinnerColumn(), what, Bar(bar_width=20), Count(""), TimeElapsedColumn()
        with self._lock:
            if self._is_over:
                return
            self._display = Progress(*columns, console=error_console(), transient=True)
            self._display.add_task(**self._state)
            self._display.start()

    def end(self) -> None:
        """Remove the line."""
        with self._lock:
            self._is_over = True
            if self._display is not None:
                self._display.stop()


@contextmanager
def progress(what: str, *, shown: bool = True) -> Iterator[Progress]:
    """Show what the block does, on a terminal."""
    told = Progress(what)
    timer = Timer(DELAY, told.begin)
    timer.daemon = True
    if shown and sys.stderr.isatty():
        timer.start()
    try:
        yield told
    finally:
        timer.cancel()
        told.end()


def pass_progress(told: Progress) -> Instrument:
    """Tells which pass of a pipeline runs."""
    from forerun.passes.instrument import Instrument, PassRun, PipelineRun

    class Passes(Instrument):
        def before_pass(self, run: PipelineRun, step: PassRun) -> None:
            count = len(run.pipeline)
            told(f"{step.subject.name}, and its checks", done=step.ordinal - 1, total=count)

        def after_pipeline(self, run: PipelineRun) -> None:
            told("loading")

    return Passes()
