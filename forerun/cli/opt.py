"""``forerun opt``: apply passes to a graph in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forerun.cli import completion, options
from forerun.cli.console import error_console, print_json, print_plain, result_console, wrapped, write_result
from forerun.cli.errors import Status, drawing, guarded
from forerun.cli.files import (
    STANDARD,
    imported_capture,
    is_capture,
    load_modules,
    load_what_a_file_needs,
    read_graph,
    refuse_dot,
    write_text,
)
from forerun.cli.options import refuse_unused
from forerun.cli.progress import pass_progress, progress
from forerun.cli.tables import pass_details, pass_table, time_sentence

if TYPE_CHECKING:
    from forerun.ir.graph import Graph
    from forerun.ir.text import SourceMap
    from forerun.passes.infra.manager import PipelineResult
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.passes.instrument import Instrument
    from forerun.passes.instrument.bisect import BisectResult
    from forerun.support.diagnostics import Diagnostic

__all__ = ["opt"]

SHOWN_DIFF_LINES = 60
_OF_A_RUN = ("output", "print_after", "dump", "stop_after", "verify")
"""The options of a run of the passes."""


@guarded
def opt(
    ctx: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="A graph (.fir), or the folder of a captured one; '-' is standard input.",
            show_default=False,
            autocompletion=completion.graphs,
        ),
    ] = None,
    pipeline: Annotated[
        str | None,
        options.passes_option("--pipeline", "-p", help="Pass,pass,...; options in braces: insert-pdl{trigger=start}."),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where the graph goes; '-' is standard output.")
    ] = "-",
    print_after: Annotated[
        str | None, typer.Option(metavar="all|changed|PASS", help="Print graphs, or what changed, to standard error.")
    ] = None,
    dump: options.Dump = None,
    stop_after: Annotated[
        str | None,
        typer.Option(
            metavar="PASS",
            help="Skip the passes after this one (a name, or its number from 1).",
            autocompletion=completion.passes,
        ),
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
    load: options.Load = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Apply passes to a graph in a file.

    A reproducer, the file that a failed pass leaves in the dump folder, names its pipeline itself. For the folder of a
    captured graph it is what forerun.optimize() begins with, unless another one is named.
    """
    from forerun.passes.infra.manager import PassManager
    from forerun.report import reporting

    load_modules(load or [])
    if list_passes:
        refuse_unused(ctx, ["file", "pipeline", *_OF_A_RUN, "bisect"], "--list-passes shows the passes, and exits")
        _list_passes(as_json=as_json)
        return Status.OK
    if bisect:
        refuse_unused(ctx, _OF_A_RUN, "--bisect runs the passes many times, and writes no graph")
    graph, passes, source = _read(file, pipeline, verbose=verbose, may_ask=not as_json)
    with drawing(source, verbose=verbose), progress("reading", shown=not as_json) as told:
        if bisect:
            told("looking for the change")
            found = _bisected(graph, passes)
        else:
            folder = None if dump is None else Path(dump)
            instruments = [*_instruments(folder, print_after, stop_after, verify=verify), pass_progress(told)]
            with reporting(folder):
                result = PassManager(passes, instruments, file=source.name).run(graph)
    if bisect:
        return _tell_bisected(found, passes, as_json=as_json)
    _tell(result, output, as_json=as_json, verbose=verbose)
    if is_capture(file or ""):
        print_plain(error_console(), *_what_holds_back(str(file), result.graph))
    return Status.OK


def _read(file: str | None, pipeline: str | None, *, verbose: bool, may_ask: bool) -> tuple[Graph, Pipeline, SourceMap]:
    """The graph, the passes, and where the graph's elements stand in its text."""
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.passes.instrument.reproducer import parse_reproducer
    from forerun.support.diagnostics import InvalidInput

    if file is None:
        raise InvalidInput("no graph is named", hint="forerun opt FILE.fir --pipeline PASSES; '-' is standard input")
    refuse_dot(file)
    if pipeline is None and is_capture(file):
        from forerun.external.optimize import CAPTURED_PIPELINE

        pipeline = CAPTURED_PIPELINE
    parsed = Pipeline.parse(pipeline) if pipeline is not None else None  # before a large file is read
    graph, source = read_graph(file, verbose=verbose)
    if parsed is not None:
        return graph, parsed, source
    reproduction = parse_reproducer(source.text)
    if reproduction is None:
        raise InvalidInput(f"no passes are named, and {file} is not a reproducer", hint="give --pipeline PASSES")
    strangers = Pipeline.strangers(reproduction.pipeline)
    load_what_a_file_needs(file, strangers, reproduction.loads, may_ask=may_ask)
    return graph, Pipeline.from_file(reproduction.pipeline, file, reproduction.loads), source


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


def _tell(result: PipelineResult, output: str, *, as_json: bool, verbose: bool) -> None:
    """Write the graph; with ``--json`` it is part of the object, unless a file is named."""
    from forerun.ir.text import print_graph

    text, summary = print_graph(result.graph), result.summary
    if verbose:
        console = error_console()
        console.print(pass_table(summary))
        for line in (time_sentence(summary), *pass_details(summary)):
            print_plain(console, line)
    if summary.dump is not None:
        print_plain(error_console(), f"dumps: {summary.dump}", f"report: {summary.dump / 'index.html'}")
    if not (as_json and output == STANDARD):
        write_text(output, text)
    if as_json:
        print_json(
            {
                "file": None if output == STANDARD else output,
                "text": text if output == STANDARD else None,
                "summary": summary.to_json(),
            }
        )


def _what_holds_back(folder: str, after: Graph) -> Iterator[str]:
    """Why kernels of a captured graph keep their code, their full dependencies, or loads after the wait."""
    from forerun.external.reasons import reasons_of

    for name, reason in reasons_of(imported_capture(folder), after).items():
        yield f"note: {name}: {reason}"


def _bisected(graph: Graph, pipeline: Pipeline) -> BisectResult | None:
    """The change after which the graph is invalid or has a race."""
    from forerun.ir.semantics import check
    from forerun.passes.instrument.bisect import bisect

    return bisect(graph, pipeline, lambda found: not _errors(found) and check(found).status != "refuted")


def _errors(graph: Graph) -> list[Diagnostic]:
    from forerun.ir.verify import verify
    from forerun.support.diagnostics import Severity

    return [d for d in verify(graph) if d.severity is Severity.ERROR]


def _tell_bisected(found: BisectResult | None, pipeline: Pipeline, *, as_json: bool) -> Status:
    from forerun.ir.semantics import check
    from forerun.ir.text import diff_graphs, draw

    status = Status.OK if found is None else Status.REFUTED
    if as_json:
        changed = None if found is None else diff_graphs(found.before, found.after)
        where = {name: getattr(found, name, None) for name in ("ordinal", "application", "applications", "tests")}
        told = {"pass": None if found is None else str(found.subject), **where, "diff": changed}
        print_json(told, "ok" if found is None else "found", status)
        return status
    if found is None:
        write_result(f"no pass of {pipeline} makes the graph wrong\n")
        return status
    print_plain(result_console(), str(found))
    lines = diff_graphs(found.before, found.after).splitlines()
    write_result("\n".join(lines[:SHOWN_DIFF_LINES]) + "\n")
    if len(lines) > SHOWN_DIFF_LINES:
        write_result(f"... {len(lines) - SHOWN_DIFF_LINES} more lines\n")
    findings = _errors(found.after) or check(found.after).findings
    write_result(draw(findings[:4], found.after).rstrip("\n") + "\n")
    return status


def _list_passes(*, as_json: bool) -> None:
    from forerun.passes.infra.named_pipelines import NAMED_PIPELINES
    from forerun.passes.infra.registry import available
    from forerun.support.options import specs, value_for_json

    if as_json:
        listed = [
            {
                "name": name,
                "summary": cls.summary(),
                "options": {
                    spec.key: {"help": spec.help, "default": None if spec.is_required else value_for_json(spec.default)}
                    for spec in specs(cls)
                },
                "statistics": dict(cls.statistics),
            }
            for name, cls in available().items()
        ]
        print_json({"passes": listed, "pipelines": dict(NAMED_PIPELINES)})
        return
    sections = [cls.help() for cls in available().values()]
    # With white space, so that lines can be broken there.
    sections += [f"The pipeline '{name}' is {text.replace(',', ', ')}" for name, text in NAMED_PIPELINES.items()]
    write_result(wrapped("\n\n".join(sections)) + "\n")
