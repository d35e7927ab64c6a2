"""Where commands write: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from forerun.support.escaping import json_text, visible, visible_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

__all__ = [
    "account_console",
    "error_console",
    "print_json",
    "print_plain",
    "print_text",
    "result_console",
    "results_only",
    "silence",
    "wrapped",
    "write_result",
]


def result_console() -> Console:
    """Standard output; styled only on a terminal, and not where ``NO_COLOR`` is set."""
    return _console(stderr=False, file=_result_stream())


def error_console() -> Console:
    """Standard error; styled only on a terminal, and not where ``NO_COLOR`` is set."""
    return _console(stderr=True, file=None)


def account_console(*outputs: str | None) -> Console:
    """Where an account goes: standard output, unless one of the results goes there (``-``)."""
    return error_console() if "-" in outputs else result_console()


def _console(*, stderr: bool, file: TextIO | None) -> Console:
    from rich.console import Console

    class SafeConsole(Console):
        """Escapes in the segments that everything is rendered to: cells of tables, messages, names."""

        def render(self, *args: Any, **kwargs: Any) -> Iterator[Segment]:
            for segment in super().render(*args, **kwargs):
                yield segment if segment.control else segment._replace(text=visible_lines(segment.text))

    return SafeConsole(stderr=stderr, file=file, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_plain(console: Console, *lines: str | Text) -> None:
    """Print lines as they are: neither wrapped nor cut, so that carets stay under what they point at.

    Each argument is one line: a line feed in a name or a path does not begin another one.
    """
    for line in lines:
        console.print(_on_one_line(line), soft_wrap=True)


def print_text(console: Console, text: str | Text) -> None:
    """Print a text of several lines, neither wrapped nor cut."""
    console.print(text, soft_wrap=True)


def wrapped(text: str) -> str:
    """A text for a terminal: paragraphs are filled to its width, and columns keep their second one where it is."""
    from rich.console import Console

    width, blocks = min(Console().width, 120), []
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        if not any(line.startswith("  ") for line in lines):
            lines = [" ".join(lines)]
        blocks.append("\n".join(filled for line in lines for filled in _filled(line, width)))
    return "\n\n".join(blocks)


def _filled(line: str, width: int) -> list[str]:
    """One line in several, the later ones under the second column if there is one."""
    column = re.match(r"\s*\S.*?\s{2,}(?=\S)", line)
    indent = min(column.end(), width // 2) if column else len(line) - len(line.lstrip())
    filler = textwrap.TextWrapper(width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return filler.wrap(line)


def _on_one_line(line: str | Text) -> str | Text:
    plain = line if isinstance(line, str) else line.plain
    shown = visible(plain)
    return line if shown == plain else shown


@contextmanager
def results_only() -> Iterator[None]:
    """Keep standard output for results: what passes, functions and loaded modules print goes to standard error."""
    token = _results.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
        _results.get().flush()
    finally:
        _results.reset(token)


_results: ContextVar[TextIO] = ContextVar("standard output, for results")


def _result_stream() -> TextIO:
    return _results.get(sys.stdout)


def write_result(text: str) -> None:
    """Write text to standard output; what would control a terminal is escaped, line feeds and tabs are not."""
    stream = _result_stream()
    stream.write(visible_lines(text))
    stream.flush()


def print_json(told: Mapping[str, Any], status: str = "ok", exit_status: int = 0) -> None:
    """Write the one JSON object of a ``--json`` command."""
    write_result(json_text({"status": status, "exit_status": exit_status, **told}, indent=1) + "\n")


def silence() -> None:
    """Let what is still buffered go nowhere, after the reader of the output has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):
            continue  # not a file: nothing can be pending there
    os.close(nowhere)
