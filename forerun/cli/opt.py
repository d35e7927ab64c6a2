"""``forerun opt``: apply passes to a graph in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forerun.cli.console import error_console, print_plain, result_console, write_result
from forerun.cli.errors import Status, drawing, guarded
from forerun.cli.files import load_modules, read_graph, write_text
from forerun.cli.options import DumpOption, LoadOption, VerboseOption
from forerun.cli.tables import pass_details, pass_table, time_sentence

if TYPE_CHECKING:
    from forerun.ir.graph import Graph
    from forerun.ir.text import SourceMap
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.passes.instrument import Instrument

__all__ = ["opt"]

SHOWN_DIFF_LINES = 60


@guarded
def opt(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A graph (.fir); '-' is standard input.", show_default=False)
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline", "-p", metavar="PASSES", help="Pass,pass,...; options in braces: insert-pdl{trigger=start}."
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where the graph goes; '-' is standard output.")
    ] = "-",
    print_after: Annotated[
        str | None,
        typer.Option(metavar="all|changed|PASS", help="Print graphs, or what changed, to standard error."),
    ] = None,
    dump: DumpOption = None,
    stop_after: Annotated[
        str | None, typer.Option(metavar="PASS", help="Skip the passes after this one (a name, or its number from 1).")
    ] = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the pass, and the change in it, that makes the graph wrong.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Verify and certify the graph after each pass.")
    ] = True,
    list_passes: Annotated[
        bool, typer.Option("--list-passes", help="Show all passes with their options, and exit.")
    ] = False,
    load: LoadOption = None,
    verbose: VerboseOption = False,
) -> Status:
    """Apply passes to a graph in a file.

    A reproducer, the file that a failed pass leaves in the dump folder, names its pipeline itself.
    """
    from forerun.report import reporting
    from forerun.support.diagnostics import InvalidInput

    load_modules(load or [])
    if list_passes:
        _list_passes()
        return Status.OK
    graph, passes, source = _read(file, pipeline, verbose=verbose)
    folder = None if dump is None else Path(dump)
    if bisect:
        if folder is not None:
            raise InvalidInput("--bisect writes no dump", hint="leave --dump out")
        with drawing(source, verbose=verbose):
            return _bisect(graph, passes)
    with drawing(source, verbose=verbose), reporting(folder):
        result = _apply(graph, passes, _instruments(folder, print_after, stop_after, verify=verify), verbose=verbose)
    if folder is not None:
        print_plain(error_console(), f"dumps: {folder}", f"report: {folder / 'index.html'}")
    write_text(output, result)
    return Status.OK


def _read(file: str | None, pipeline: str | None, *, verbose: bool) -> tuple[Graph, Pipeline, SourceMap]:
    """The graph, the passes, and where the graph's elements stand in its text."""
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.passes.instrument.reproducer import parse_reproducer
    from forerun.support.diagnostics import InvalidInput

    if file is None:
        raise InvalidInput("no graph is named", hint="forerun opt FILE.fir --pipeline PASSES; '-' is standard input")
    parsed = Pipeline.parse(pipeline) if pipeline is not None else None  # before a large file is read
    graph, source = read_graph(file, verbose=verbose)
    if parsed is not None:
        return graph, parsed, source
    reproduction = parse_reproducer(source.text)
    if reproduction is None:
        raise InvalidInput(f"no passes are named, and {file} is not a reproducer", hint="give --pipeline PASSES")
    return graph, Pipeline.from_file(reproduction.pipeline, file, reproduction.rerun), source


def _instruments(
    dump: Path | None, print_after: str | None, stop_after: str | None, *, verify: bool
) -> list[Instrument]:
    from forerun.passes.instrument import Dump, PrintAfter, Reproducer, StopAfter, default_instruments

    chosen = default_instruments() if verify else []
    if dump is not None:
        chosen += [Dump(dump), Reproducer()]
    if print_after is not None:
        chosen.append(PrintAfter(print_after))
    if stop_after is not None:
        chosen.append(StopAfter(stop_after))
    return chosen


def _apply(graph: Graph, pipeline: Pipeline, instruments: list[Instrument], *, verbose: bool) -> str:
    """The text of the graph that the passes make."""
    from forerun.ir.text import print_graph
    from forerun.passes.infra.manager import PassManager

    result = PassManager(pipeline, instruments).run(graph)
    if verbose:
        console = error_console()
        console.print(pass_table(result.summary))
        for line in (time_sentence(result.summary), *pass_details(result.summary)):
            print_plain(console, line)
    return print_graph(result.graph)


def _bisect(graph: Graph, pipeline: Pipeline) -> Status:
    """Search for the change after which the graph is invalid or has a race."""
    from forerun.ir.semantics import check
    from forerun.ir.text import diff_graphs, draw
    from forerun.ir.verify import verify
    from forerun.passes.instrument.bisect import bisect
    from forerun.support.diagnostics import Severity

    def errors(candidate: Graph) -> list[object]:
        return [d for d in verify(candidate) if d.severity is Severity.ERROR]

    found = bisect(graph, pipeline, lambda candidate: not errors(candidate) and check(candidate).status != "refuted")
    if found is None:
        write_result(f"no pass of {pipeline} makes the graph wrong\n")
        return Status.OK
    print_plain(result_console(), str(found))
    lines = diff_graphs(found.before, found.after).splitlines()
    write_result("\n".join(lines[:SHOWN_DIFF_LINES]) + "\n")
    if len(lines) > SHOWN_DIFF_LINES:
        write_result(f"... {len(lines) - SHOWN_DIFF_LINES} more lines\n")
    findings = [d for d in verify(found.after) if d.severity is Severity.ERROR] or check(found.after).findings
    write_result(draw(findings[:4], found.after).rstrip("\n") + "\n")
    return Status.REFUTED


def _list_passes() -> None:
    from forerun.passes.infra.named_pipelines import NAMED_PIPELINES
    from forerun.passes.infra.registry import available

    sections = [cls.help() for cls in available().values()]
    sections += [f"The pipeline '{name}' is {text}" for name, text in NAMED_PIPELINES.items()]
    write_result("\n\n".join(sections) + "\n")
