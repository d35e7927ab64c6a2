"""Errors of commands: every way to fail becomes a message and an exit status."""

from __future__ import annotations

import enum
import functools
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import typer

from forerun.cli.console import error_console, print_json, print_plain, print_text, results_only, silence
from forerun.support.escaping import visible, visible_lines

if TYPE_CHECKING:
    from forerun.ir.graph import Graph
    from forerun.ir.text import SourceMap
    from forerun.support.diagnostics import ForerunError

__all__ = ["Status", "drawing", "guarded", "leading_on", "report_usage_error"]

SHOWN_DIAGNOSTICS = 20
"""How many diagnostics are drawn, unless ``-v`` is given."""

_Parameters = ParamSpec("_Parameters")


def guarded(command: Callable[_Parameters, Status]) -> Callable[_Parameters, None]:
    """Decorator for commands: what they raise is told on standard error, and becomes the exit status.

    A command's parameter ``verbose`` turns tracebacks on; ``as_json`` makes errors a JSON object on standard output,
    too.
    """

    @functools.wraps(command)
    def guarded_command(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        verbose, as_json = bool(kwargs.get("verbose")), bool(kwargs.get("as_json"))
        try:
            try:
                with results_only(), _warnings_told():
                    status = command(*args, **kwargs)
            except (BrokenPipeError, KeyboardInterrupt, typer.Exit):
                raise
            except (Exception, SystemExit) as error:
                status = _tell(error, verbose=verbose, as_json=as_json)
        except BrokenPipeError:
            silence()
            status = Status.BROKEN_PIPE
        except KeyboardInterrupt:
            print_text(error_console(), "\ninterrupted")
            status = Status.INTERRUPTED
            if as_json:
                print_json({}, "interrupted", status)
        raise typer.Exit(status)

    # The signature that typer reads is the command's; what it returns is not typer's business.
    guarded_command.__annotations__ = {**command.__annotations__, "return": None}
    return guarded_command


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Forerun's own warnings are told in one line, on standard error."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
            from forerun.support.diagnostics import ForerunWarning

            if issubclass(category, ForerunWarning):
                print_text(error_console(), f"warning: {message}")
            else:
                shown(message, category, *place, **rest)

        warnings.showwarning = cast("Callable[..., None]", show)
        yield


@contextmanager
def leading_on(hint: str) -> Iterator[None]:
    """Where there is no GPU, the error that leaves the block says what can be done without one."""
    from forerun.support.diagnostics import Unsupported

    try:
        yield
    except Unsupported as error:
        from forerun.runtime.gpu import no_gpu_reason

        if no_gpu_reason() is not None:
            error.hint = hint
        raise


@contextmanager
def drawing(source: Graph | SourceMap | str, *, verbose: bool = False) -> Iterator[None]:
    """Errors that leave the block have their diagnostics drawn in the text that they are about."""
    from forerun.ir.text import SourceMap, draw, place_in
    from forerun.support.diagnostics import ForerunError

    try:
        yield
    except ForerunError as error:
        from forerun.passes.infra.failure import PassFailure

        is_drawn = isinstance(error, PassFailure) or bool(getattr(error, "__notes__", ()))
        if error.diagnostics and not is_drawn:
            drawn = draw(error.diagnostics, source, limit=None if verbose else SHOWN_DIAGNOSTICS)
            rest = "" if verbose or len(error.diagnostics) <= SHOWN_DIAGNOSTICS else "; -v shows all"
            error.add_note(drawn + rest)
            if isinstance(source, SourceMap):
                error.diagnostics = tuple(d.at(place_in(source, d.location)) for d in error.diagnostics)
        raise


def report_usage_error(message: str, usage: str, help_command: str) -> None:
    """Tell that the command line itself is wrong."""
    _print_error(message)
    console = error_console()
    print_text(console, usage)
    print_plain(console, f"'{help_command}' tells more")


def _tell(error: Exception | SystemExit, *, verbose: bool, as_json: bool) -> Status:
    """Print what went wrong; returns the exit status."""
    from forerun.support.diagnostics import ForerunError, InternalError, InvalidInput

    if isinstance(error, ForerunError):
        told = error
    elif isinstance(error, OSError):
        told = InvalidInput(_words_of_os_error(error))
    elif isinstance(error, MemoryError):
        told = InvalidInput("out of memory", hint="the input is too large for this machine")
    else:
        first_line = f"{type(error).__name__}: {error}".partition("\n")[0]
        hint = "" if verbose else "this is a bug in forerun, or in a module that it loaded; -v shows where"
        told = InternalError(f"internal error: {first_line}", hint=hint)
    if verbose:
        sys.stderr.write(textwrap.indent(visible_lines("".join(traceback.format_exception(error))), "  "))
    _print_error(_body(told))
    status = Status(told.exit_status)
    if as_json:
        print_json({"error": _error_as_json(told)}, "error", status)
    return status


def _body(error: ForerunError) -> str:
    """The message with all that belongs to it; diagnostics as :func:`drawing` drew them, if it did.

    What a line feed in a name would put on a line of its own is indented, so that it never looks like a verdict.
    """
    from forerun.support.diagnostics import ForerunError

    if type(error).__str__ is not ForerunError.__str__:
        return str(error)  # it draws itself, in sections that are indented
    parts = [error.message.replace("\n", "\n  ")]
    notes = getattr(error, "__notes__", ())
    parts += [note.rstrip("\n") for note in notes] if notes else [str(each) for each in error.diagnostics]
    return "\n".join([*parts, f"hint: {visible(error.hint)}"] if error.hint else parts)


def _print_error(message: str) -> None:
    from rich.text import Text

    print_text(error_console(), Text.assemble(("error: ", "bold red"), message))


def _words_of_os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _error_as_json(error: ForerunError) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "diagnostics": [diagnostic.to_json() for diagnostic in error.diagnostics],
    }


class Status(enum.IntEnum):
    """What the process returns. The first five are part of the interface; the others follow the shell's habit."""

    OK = 0
    """Done, or proved."""
    REFUTED = 1
    """A graph or a rewrite was shown to be wrong."""
    BAD_INPUT = 2
    """The command line, a file or a graph is wrong."""
    UNSUPPORTED = 3
    """It cannot be done here, or not be decided."""
    INTERNAL = 4
    """forerun, or a pass, misbehaved."""
    INTERRUPTED = 130
    """Ctrl-C."""
    BROKEN_PIPE = 141
    """Whoever reads the output has left."""
