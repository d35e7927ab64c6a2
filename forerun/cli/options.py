"""Options that several commands have: types of their parameters, such as ``verbose: options.Verbose = False``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias

import typer

from forerun.cli import completion
from forerun.cli.decoding import MatrixStorage, MatrixType

__all__ = [
    "BY_TARGET",
    "Context",
    "Dump",
    "Gpu",
    "GpuPipeline",
    "Json",
    "KvRows",
    "Load",
    "Matrices",
    "Pipeline",
    "Position",
    "RandomWeights",
    "Shape",
    "Subject",
    "Verbose",
    "passes_option",
    "refuse_unused",
    "target_option",
]


def refuse_unused(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse parameters of the command that were given and would be ignored; ``why`` says what decides instead.

    Raises:
        InvalidInput: If one was given.
    """
    from forerun.support.diagnostics import InvalidInput

    spelled = {p.name: p.opts[0] if p.opts[0].startswith("-") else str(p.metavar) for p in context.command.params}
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInput(f"{spelled[name]} has no use here", hint=why)


def target_option(help: str) -> Any:
    """A command's ``--target``."""
    return typer.Option("--target", metavar="TARGET", help=help, autocompletion=completion.targets)


def passes_option(*names: str, help: str) -> Any:
    """An option that takes passes."""
    return typer.Option(*names, metavar="PASSES", help=help, autocompletion=completion.passes)


Verbose: TypeAlias = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more; show the traceback of an error.")]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, and nothing else, to standard output.")
]
Dump: TypeAlias = Annotated[
    str | None, typer.Option("--dump", metavar="DIR", help="Write the graph after each pass, with diffs and a report.")
]
Load: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--load",
        metavar="MODULE",
        autocompletion=completion.modules,
        help="Import a module or a .py file first, for its passes, and let graphs call its functions; "
        "or let them use a .cu, .ptx or .cubin file. Repeatable.",
    ),
]

# What run, bench, tune and export are about.
Subject: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="GRAPH.fir|MODEL",
        help="A graph, 'smollm2' (fetched once), or a .gguf file of the Llama architecture.",
        autocompletion=completion.subjects,
    ),
]
Shape: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A model's shapes instead, with random weights: llama-3.2-1b, ...",
        autocompletion=completion.shapes,
    ),
]
RandomWeights: TypeAlias = Annotated[
    bool, typer.Option("--random-weights", help="Say so: the weights of a --shape are random in any case.")
]
Gpu: TypeAlias = Annotated[str, target_option("Which GPU: cuda, options in braces.")]
BY_TARGET = "auto"


def _pipeline_option(default: str) -> Any:
    """The passes for a compilation; which ones are the default, its help says."""
    return typer.Option(
        metavar="PASSES",
        show_default=False,
        autocompletion=completion.passes,
        help=f"Pass,pass,...; options in braces. [default: {default}]",
    )


Pipeline: TypeAlias = Annotated[str, _pipeline_option("fast on a GPU, exact elsewhere")]
GpuPipeline: TypeAlias = Annotated[str, _pipeline_option("fast")]
Position: TypeAlias = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Where a decode step stands. [default: 512, or the last]")
]
Matrices: TypeAlias = Annotated[
    MatrixStorage | None,
    typer.Option(
        help="Type of a model's matrices. [default: on a GPU bf16 for shapes, for files their blocks as they are, or "
        "f16; else f32]"
    ),
]
KvRows: TypeAlias = Annotated[
    MatrixType | None,
    typer.Option(
        "--kv-dtype", help="Type of the rows of a model's KV cache. [default: bf16 for shapes on a GPU, else f32]"
    ),
]
Context: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Positions of a model's KV cache. [default: at least 1024]")
]
