"""``forerun export``: the graph of a model's decode steps, or a sample, as text."""

from __future__ import annotations

from typing import Annotated

import typer

from forerun.cli import completion, options
from forerun.cli.console import print_json, print_plain, result_console
from forerun.cli.decoding import DecodePlan
from forerun.cli.errors import Status, guarded
from forerun.cli.files import STANDARD, write_text
from forerun.cli.options import refuse_unused
from forerun.cli.subject import Choice
from forerun.report.words import plural

__all__ = ["export"]


@guarded
def export(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="'smollm2' (fetched once), or a .gguf file of the Llama architecture.",
            autocompletion=completion.subjects,
        ),
    ] = None,
    shape: options.Shape = None,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A small graph to try things on: two-layers, race, decode, loop.",
            autocompletion=completion.samples,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where the graph goes; '-' is standard output.")
    ] = STANDARD,
    target: Annotated[
        str, options.target_option("What it is for, which decides on types and parts; no GPU is needed.")
    ] = "cuda",
    steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many steps; each feeds the choice of the one before.")
    ] = 1,
    dtype: options.Matrices = None,
    kv_dtype: options.KvRows = None,
    context: options.Context = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Write a model's graph, or a sample, as text.

    A model's graph is the decode step that passes begin with: small kernels, each of which waits for the one before.
    Weights are named in it, and not contained.
    """
    from forerun.frontends.samples import sample_named
    from forerun.ir.text import print_graph
    from forerun.support.diagnostics import InvalidInput

    if sample is not None:
        refuse_unused(
            ctx, ("model", "shape", "target", "steps", "dtype", "kv_dtype", "context"), "a sample is as it is"
        )
        graph = sample_named(sample)
    else:
        choice = Choice.of(ctx, model, shape)
        if choice.is_graph:
            raise InvalidInput(f"{model} is a graph already", hint="forerun opt applies passes to it")
        plan = DecodePlan.of(target, "", dtype, context, cache=kv_dtype, shaped=shape is not None)
        named = choice.model(plan, talks=not as_json)
        graph = plan.graph(named.config, steps=steps, packings=named.packings)
    text = print_graph(graph)
    if not (as_json and output == STANDARD):
        write_text(output, text)
    if as_json:
        where = {"file": None, "text": text} if output == STANDARD else {"file": output, "text": None}
        print_json({**where, "graph": graph.name, "nodes": len(graph)})
    elif output != STANDARD:
        print_plain(result_console(), f"wrote {output}: graph {graph.name}, {plural(len(graph), 'node')}")
    return Status.OK
