"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = ["DumpOption", "JsonOption", "LoadOption", "VerboseOption"]

VerboseOption: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Tell more; show the traceback of an error.")
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, and nothing else, to standard output.")
]
DumpOption: TypeAlias = Annotated[
    str | None, typer.Option("--dump", metavar="DIR", help="Write the graph after each pass, with diffs and a report.")
]
LoadOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--load", metavar="MODULE", help="Import a module or a .py file first, for its passes. Repeatable."),
]
