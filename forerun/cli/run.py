"""``forerun run``: compile a model's decode step, and let it continue a prompt."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli.console import print_json, print_plain, result_console, working, write_result
from forerun.cli.decoding import DecodePlan, default_target
from forerun.cli.errors import Status, guarded
from forerun.cli.files import new_run_folder
from forerun.cli.models import SHAPED_MODEL, model_path
from forerun.cli.options import (
    BY_TARGET,
    DumpOption,
    JsonOption,
    KvOption,
    MatricesOption,
    PipelineOption,
    PositionOption,
    VerboseOption,
)
from forerun.cli.run_shape import ShapeRequest, run_shape
from forerun.cli.tables import pass_details, pass_table, promise_sentence, time_sentence
from forerun.report.words import duration

if TYPE_CHECKING:
    from forerun.frontends.generate import Generation
    from forerun.passes.infra.summary import Summary

__all__ = ["Schedule", "run"]


class Schedule(enum.StrEnum):
    """How the reference target orders events."""

    SERIAL = "serial"
    ADVERSARIAL = "adversarial"


@dataclass(frozen=True)
class _Request:
    """What was asked for. ``talks``: progress and an account are shown; ``streams``: the text is, as it comes."""

    model: str
    prompt: str
    plan: DecodePlan
    dump: str | None
    max_new_tokens: int
    talks: bool
    streams: bool


@dataclass(frozen=True)
class _Outcome:
    """What a run came to."""

    request: _Request
    generation: Generation
    summary: Summary
    dump: Path

    @property
    def tokens_per_second(self) -> float:
        seconds = self.generation.seconds_per_token
        return 1 / seconds if seconds else 0.0


@guarded
def run(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="'smollm2' (fetched once), a .gguf file of the Llama architecture, or 'llama' with --shape.",
        ),
    ],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="The text to continue.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="reference or cuda, options in braces. [default: reference; with --shape: cuda where there is a GPU]",
        ),
    ] = None,
    pipeline: PipelineOption = BY_TARGET,
    dump: DumpOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=0, metavar="N", help="The most tokens to add.")] = 32,
    context: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Positions of the KV cache. [default: the model's, at most 1024]"),
    ] = None,
    dtype: MatricesOption = None,
    kv_dtype: KvOption = None,
    shape: Annotated[
        str | None, typer.Option(metavar="NAME", help="With MODEL 'llama': which shapes, such as llama-3.2-1b.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="With --shape: draw weights; run steps, and time them.")
    ] = False,
    position: PositionOption = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="With --shape: how many steps are timed. [default: 640 on a GPU, else 5]"
        ),
    ] = None,
    schedule: Annotated[Schedule | None, typer.Option(help="Order of events on the reference target.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Which adversarial schedules are drawn.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the new text only.")] = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> Status:
    """Compile a model's decode step, and continue a prompt.

    Passes rewrite the graph, each of them is checked, and the graph after each is dumped. By default dumps go to the
    cache folder, where the latest runs are kept.
    """
    talks, streams = not (quiet or as_json), not as_json
    named = target or default_target(shaped=model == SHAPED_MODEL)
    shaped = model == SHAPED_MODEL
    plan = DecodePlan.of(_with_schedule(named, schedule, seed), pipeline, dtype, context, cache=kv_dtype, shaped=shaped)
    if model == SHAPED_MODEL:
        request = ShapeRequest(shape, random_weights, position, steps, plan, dump, prompt is not None)
        return run_shape(request, talks=talks, as_json=as_json, verbose=verbose)
    outcome = _run(_Request(model, _text_to_continue(prompt, shape), plan, dump, max_new_tokens, talks, streams))
    if as_json:
        print_json(_as_json(outcome))
    elif talks:
        _print_account(outcome, verbose=verbose)
    return Status.OK


def _run(request: _Request) -> _Outcome:
    from forerun.frontends.generate import generate
    from forerun.frontends.llama import LlamaModel

    model = LlamaModel.open(model_path(request.model, shown=request.talks))
    folder = new_run_folder(Path(request.model).stem) if request.dump is None else Path(request.dump)
    with working("compiling", shown=request.talks):
        executable = request.plan.compile(model.config, model.weights_as(request.plan.dtype), folder)
    with executable, _streaming(request) as on_text:
        generation = generate(executable, model.tokenizer, request.prompt, request.max_new_tokens, on_text)
    return _Outcome(request, generation, executable.summary, folder)


def _text_to_continue(prompt: str | None, shape: str | None) -> str:
    from forerun.support.diagnostics import InvalidInput

    if shape is not None:
        raise InvalidInput("--shape is for the model 'llama'", hint="forerun run llama --shape NAME --random-weights")
    if prompt is None:
        raise InvalidInput("a prompt is missing", hint='give --prompt "..."')
    return prompt


def _with_schedule(target: str, schedule: Schedule | None, seed: int | None) -> str:
    """The target's text with the two options that have flags of their own."""
    from forerun.support.diagnostics import InvalidInput
    from forerun.support.option_text import format_item, format_value, parse_item

    flags = {"schedule": schedule and str(schedule), "seed": None if seed is None else str(seed)}
    given = {key: value for key, value in flags.items() if value is not None}
    if not given:
        return target
    item = parse_item(target, "target")
    options = {option.key: format_value(option.value, quote=option.quoted) for option in item.options}
    for key in given:
        if key in options:
            raise InvalidInput(f"--{key} and the target's option '{key}' are both given", hint="give one of them")
    return format_item(item.name, {**options, **given})


@contextmanager
def _streaming(request: _Request) -> Iterator[Callable[[str], None] | None]:
    """A callback that writes text as it comes, after the prompt; a spinner until then. Nothing if the block fails."""
    if not request.streams:
        yield None
        return
    prompt = request.prompt if request.talks else ""
    pieces = 0
    with ExitStack() as spinner:
        spinner.enter_context(working("reading the prompt", shown=request.talks))

        def on_text(piece: str) -> None:
            nonlocal pieces
            spinner.close()
            write_result(piece if pieces else prompt + piece)
            pieces += 1

        yield on_text
    write_result("\n" if pieces else f"{prompt}\n")


def _print_account(outcome: _Outcome, *, verbose: bool) -> None:
    from rich.text import Text

    console = result_console()
    console.print()
    console.print(pass_table(outcome.summary))
    console.print()
    generation = outcome.generation
    lines = [
        time_sentence(outcome.summary),
        promise_sentence(outcome.summary),
        f"{generation.steps} tokens on {outcome.request.plan.target}, {outcome.tokens_per_second:.1f} tokens/s "
        f"(the prompt's {len(generation.prompt_tokens)} tokens took {duration(generation.prefill_seconds)})",
    ]
    if verbose:
        lines.append(f"stopped because of: {generation.stop}; tokens: {' '.join(map(str, generation.tokens))}")
        lines += pass_details(outcome.summary)
    for line in lines:
        print_plain(console, line)
    print_plain(console, Text.assemble(("dumps: ", "bold"), str(outcome.dump)))
    print_plain(console, Text.assemble(("report: ", "bold"), str(outcome.dump / "index.html")))


def _as_json(outcome: _Outcome) -> dict[str, Any]:
    request, generation = outcome.request, outcome.generation
    return {
        "status": "ok",
        "exit_status": 0,
        "model": request.model,
        "target": str(request.plan.target),
        "dtype": str(request.plan.dtype),
        "prompt": request.prompt,
        "text": generation.text,
        "prompt_tokens": list(generation.prompt_tokens),
        "tokens": list(generation.tokens),
        "stop": generation.stop,
        "prefill_seconds": generation.prefill_seconds,
        "decode_seconds": generation.decode_seconds,
        "tokens_per_second": outcome.tokens_per_second,
        "dump": str(outcome.dump),
        "summary": outcome.summary.to_json(),
    }
