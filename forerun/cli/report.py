"""``forerun report``: the HTML page of a dump."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forerun.cli import options
from forerun.cli.console import print_json, print_plain, result_console
from forerun.cli.errors import Status, guarded
from forerun.cli.files import STANDARD, require_one_result, write_text
from forerun.cli.progress import progress

__all__ = ["report"]


@guarded
def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that --dump wrote.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the page goes. [default: DIR/index.html]"),
    ] = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Make an HTML page of a dump.

    The page needs nothing but itself: passes, times, statistics, diffs, and pictures of the graphs.
    """
    from forerun.report import page_of

    require_one_result(output, as_json=as_json)
    path = output or str(Path(folder) / "index.html")
    with progress("drawing", shown=not as_json):
        page = page_of(folder)
    write_text(path, page)
    size = len(page.encode())
    if as_json:
        print_json({"page": path, "bytes": size})
    elif path != STANDARD:
        print_plain(result_console(), f"wrote {path} ({size / 1e6:.1f} MB)")
    return Status.OK
