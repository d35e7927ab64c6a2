"""``forerun report``: the HTML page of a dump."""

from __future__ import annotations

from typing import Annotated

import typer

from forerun.cli.console import print_json, print_plain, result_console
from forerun.cli.errors import Status, guarded
from forerun.cli.options import JsonOption, VerboseOption

__all__ = ["report"]


@guarded
def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that --dump wrote.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the page goes. [default: DIR/index.html]"),
    ] = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> Status:
    """Make an HTML page of a dump.

    The page needs nothing but itself: passes, times, statistics, diffs, and pictures of the graphs.
    """
    from forerun.report import write_report

    path = write_report(folder, output)
    if as_json:
        print_json({"status": "ok", "exit_status": 0, "page": str(path), "bytes": path.stat().st_size})
    else:
        print_plain(result_console(), f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return Status.OK
