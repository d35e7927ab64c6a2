"""``forerun fuzz``: look for a graph that a pipeline breaks, and keep the smallest one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli import completion, options
from forerun.cli.console import account_console, print_json, print_plain, print_text, result_console
from forerun.cli.errors import Status, drawing, guarded
from forerun.cli.files import load_modules, load_what_a_file_needs, read_text, require_one_result, write_text
from forerun.cli.options import refuse_unused
from forerun.cli.progress import progress
from forerun.report.words import plural

if TYPE_CHECKING:
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.runtime import Target
    from forerun.testing import Counterexample, SearchResult

__all__ = ["fuzz"]


@guarded
def fuzz(
    ctx: typer.Context,
    pipeline: Annotated[
        str | None,
        options.passes_option("--pipeline", "-p", help="Pass,pass,...; options in braces."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, metavar="N", help="How many random graphs are tried.")] = 200,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Equal seeds try the same graphs.")] = 0,
    target: Annotated[str, options.target_option("Where the graphs run.")] = "reference",
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where a counterexample goes. [default: named after PASSES]"
        ),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Try the counterexample that an earlier run has written.",
            autocompletion=completion.graphs,
        ),
    ] = None,
    graphs: Annotated[
        str | None, typer.Option(metavar="MODULE:NAME", help="A Hypothesis strategy to draw graphs from.")
    ] = None,
    load: options.Load = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Try passes on random graphs; keep the smallest failure.

    After the passes, a graph must be valid, provably mean the same, compute the same under adversarial schedules, and
    survive printing and reading; a single pass must be idempotent, and honest about what it changes. Exit status 0
    means that all graphs were fine, 1 that a counterexample was found; it is written as a .fir file.
    """
    from forerun.support.diagnostics import InvalidInput
    from forerun.testing.files import file_name

    if (pipeline is None) == (replay is None):
        hint = "forerun fuzz --pipeline PASSES, or forerun fuzz --replay FILE"
        raise InvalidInput("give either --pipeline or --replay", hint=hint)
    if replay is not None:
        refuse_unused(ctx, ("examples", "seed", "output", "graphs"), "--replay tries the one graph of its file")
    targets = _targets(target)
    load_modules(load or [])
    if replay is not None:
        return _replay(replay, targets, as_json=as_json)
    require_one_result(output, as_json=as_json)
    assert pipeline is not None
    passes = _parsed(pipeline)
    path = output or file_name(passes)
    result = _search(passes, graphs, examples, seed, targets, shown=not as_json)
    found = result.counterexample
    if found is not None:
        _save(path, found, passes)
    if as_json:
        print_json(_as_json(passes, seed, result, path), *_outcome(found))
    else:
        _tell(passes, result, path, verbose=verbose)
    return _outcome(found)[1]


def _outcome(found: Counterexample | None) -> tuple[str, Status]:
    return ("ok", Status.OK) if found is None else ("counterexample", Status.REFUTED)


def _parsed(pipeline: str) -> Pipeline:
    from forerun.support.diagnostics import InvalidInput
    from forerun.testing.subject import pipeline_of

    passes = pipeline_of(pipeline)
    if not len(passes):
        raise InvalidInput("the pipeline has no passes", hint="forerun opt --list-passes shows all")
    return passes


def _targets(target: str) -> tuple[Target, ...]:
    """Where graphs run besides the reference target, which always counts; looked at before the search begins.

    Raises:
        InvalidInput: If there is no such target.
        Unsupported: If it is not there: no GPU.
    """
    from forerun.ir.graph import Graph
    from forerun.runtime import resolve_target

    resolved = resolve_target(target)
    if resolved.name == "reference":
        return ()
    resolved.load(Graph("empty"), {}).close()
    return (resolved,)


def _search(
    passes: Pipeline, graphs: str | None, examples: int, seed: int, targets: tuple[Target, ...], *, shown: bool
) -> SearchResult:
    from forerun.testing import search
    from forerun.testing.files import load_strategy

    strategy = None if graphs is None else load_strategy(graphs)  # the user named it, so it is vouched for
    with progress("trying graphs", shown=shown) as told:

        def on_progress(result: SearchResult) -> None:
            if result.shrinks:
                told(f"making it smaller: {result.shrinks:,} graphs tried")
            else:
                told(done=result.examples, total=examples)

        return search(passes, strategy, examples=examples, seed=seed, targets=targets, on_progress=on_progress)


def _save(path: str, found: Counterexample, passes: Pipeline) -> None:
    from forerun.testing.files import counterexample_text, replay_command

    write_text(path, counterexample_text(path, found, passes))
    found.replay = replay_command(path, passes, found.before)


def _tell(passes: Pipeline, result: SearchResult, path: str, *, verbose: bool) -> None:
    from rich.text import Text

    console = account_console(path)
    counts = f"{plural(result.examples, 'graph')}, {result.fired} of them changed, {result.seconds:.1f} s"
    found = result.counterexample
    if found is None:
        print_plain(console, Text.assemble(("no counterexample", "bold green"), f": {passes}: {counts}"))
        if not result.fired:
            hint = "the passes changed no graph, so this says nothing: see docs/testing-passes.md, 'Aiming'"
            print_plain(console, Text.assemble(("warning", "bold yellow"), f": {hint}"))
        return
    print_plain(console, Text.assemble(("counterexample", "bold red"), f": {passes}: {counts}"))
    print_text(console, f"{found}\n")
    print_plain(console, f"written to {path} ({plural(len(found.before), 'node')})")
    if verbose:
        print_plain(console, f"smaller graphs that were tried: {result.shrinks}")


def _replay(name: str, targets: tuple[Target, ...], *, as_json: bool) -> Status:
    """Apply the passes of a counterexample to its graph again, and look at the property that broke."""
    from forerun.ir.demands import demands
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.testing.counterexample import Counterexample
    from forerun.testing.files import read_counterexample
    from forerun.testing.properties import PROPERTIES, Application

    text = read_text(name)
    with drawing(text):
        saved = read_counterexample(name, text)
    strangers = [*Pipeline.strangers(saved.pipeline)]
    strangers += [d.text for d in demands(saved.graph, sources=bool(targets)) if not d.is_vouched]
    load_what_a_file_needs(name, strangers, saved.loads, may_ask=not as_json)
    pipeline = Pipeline.from_file(saved.pipeline, name, saved.loads)
    found = None
    try:
        PROPERTIES[saved.property].check(Application.of(pipeline, saved.graph, targets))
    except Counterexample as error:
        found = error
    if as_json:
        print_json({"file": name, "pipeline": str(pipeline), **_finding(found)}, *_outcome(found))
    else:
        sentence = f"{saved.property}: it holds now for {pipeline} on this graph"
        print_text(result_console(), sentence if found is None else str(found))
    return _outcome(found)[1]


def _as_json(passes: Pipeline, seed: int, result: SearchResult, path: str) -> dict[str, Any]:
    found = result.counterexample
    return {
        "pipeline": str(passes),
        "seed": seed,
        "examples": result.examples,
        "fired": result.fired,
        "shrinks": result.shrinks,
        "seconds": result.seconds,
        "file": None if found is None else path,
        "nodes": None if found is None else len(found.before),
        **_finding(found),
    }


def _finding(found: Counterexample | None) -> dict[str, str | None]:
    return {
        "property": None if found is None else found.property,
        "finding": None if found is None else found.finding,
    }
