"""The application: the commands, and how one is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from forerun.cli import bench, check, export, fuzz, info, litmus, opt, report, run, tune
from forerun.cli.console import silence, write_result
from forerun.cli.errors import Status, report_usage_error
from forerun.support.version import __version__

__all__ = ["app", "run_command"]


class _Command(TyperCommand):
    """A command whose help names arguments as manuals do: ``FILE [AFTER]``, without types."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                parameter.get_help_record = _without_type(parameter.get_help_record)  # type: ignore[method-assign, assignment]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


def _without_type(record: Callable[[Any], tuple[str, str] | None]) -> Callable[[Any], tuple[str, str] | None]:
    def without_type(context: Any) -> tuple[str, str] | None:
        found = record(context)
        return None if found is None else (found[0].partition(" ")[0], found[1])

    return without_type


app = typer.Typer(
    name="forerun",
    help="A compiler for CUDA graphs: rewrites graphs of kernel launches with passes, and checks each rewrite.",
    epilog="Exit status: 0 fine or proved, 1 refuted, 2 bad input, 3 unsupported or no GPU, 4 internal error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels leave half of an 80-column line for the text
    context_settings={"help_option_names": ["-h", "--help"]},
)

_MODULES = run, bench, tune, export, opt, check, fuzz, litmus, report, info
for _module in _MODULES:
    app.command(cls=_Command, no_args_is_help=False)(getattr(_module, _module.__name__.rpartition(".")[2]))


def _print_version(wanted: bool) -> None:
    if wanted:
        write_result(f"forerun {__version__}\n")
        raise typer.Exit


@app.callback()
def _forerun(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of forerun itself."""


@cache
def _command_line() -> Callable[..., Any]:
    """The commands with their options: made once, as that takes longer than many commands do."""
    command: Callable[..., Any] = typer.main.get_command(app)
    return command


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Do what a command line, by default that of the process, asks for, and return the exit status.

    Raises:
        KeyboardInterrupt: If somebody pressed Ctrl-C before the command began; while it runs, it has a status.
    """
    command = _command_line()
    try:
        # In a context of its own: what --load vouches for ends with the command.
        status = copy_context().run(
            command, args=None if arguments is None else list(arguments), prog_name="forerun", standalone_mode=False
        )
        return int(status or Status.OK)
    except SystemExit as error:
        return _status_of_exit(error)
    except Exception as error:
        # typer's errors are of several classes over its versions; what they have in common is how they tell.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        if not hasattr(error, "format_message"):
            raise
        return _usage_error(error)


def _status_of_exit(error: SystemExit) -> int:
    """Typer leaves with status 1, which has a meaning of its own here, when the reader of its help has left."""
    if isinstance(error.__context__, BrokenPipeError):
        silence()
        return Status.BROKEN_PIPE
    return error.code if isinstance(error.code, int) else Status.OK


def _usage_error(error: Any) -> Status:
    message = error.format_message().replace(": Value error, ", ": ", 1)  # pydantic's words, which tell nobody anything
    context = getattr(error, "ctx", None)
    if context is None:
        report_usage_error(message, "usage: forerun COMMAND ...", "forerun --help")
    elif type(error).__name__ == "NoArgsIsHelpError":
        write_result(context.get_help() + "\n")
    else:
        usage = context.get_usage().replace("Usage:", "usage:", 1)
        report_usage_error(message, usage, f"{context.command_path} --help")
    return Status.BAD_INPUT
