"""``forerun run``: compile a model's decode step and let it continue a prompt, or run a graph."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli import options
from forerun.cli.console import print_json, print_plain, result_console, write_result
from forerun.cli.decoding import DecodePlan, compiled, default_target
from forerun.cli.errors import Status, guarded
from forerun.cli.files import load_modules, new_run_folder
from forerun.cli.models import model_path
from forerun.cli.options import refuse_unused
from forerun.cli.progress import progress
from forerun.cli.run_prompts import PromptsRequest, require_prompts, run_prompts
from forerun.cli.run_steps import StepsRequest, run_steps
from forerun.cli.subject import Choice
from forerun.cli.tables import pass_details, pass_table, promise_sentence, time_sentence
from forerun.report.words import duration, plural

if TYPE_CHECKING:
    from forerun.frontends.generate import Generation
    from forerun.passes.infra.summary import Summary

__all__ = ["Schedule", "run"]


class Schedule(enum.StrEnum):
    """How the reference target orders events."""

    SERIAL = "serial"
    ADVERSARIAL = "adversarial"


@guarded
def run(
    ctx: typer.Context,
    model: options.Subject = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", metavar="TEXT", help="The text to continue; several are continued at once."),
    ] = None,
    shape: options.Shape = None,
    random_weights: options.RandomWeights = False,
    target: Annotated[
        str | None,
        options.target_option(
            "reference or cuda, options in braces. [default: reference; with --shape: cuda where there is a GPU]"
        ),
    ] = None,
    pipeline: options.Pipeline = options.BY_TARGET,
    dump: options.Dump = None,
    max_new_tokens: Annotated[int, typer.Option(min=0, metavar="N", help="The most tokens to add.")] = 32,
    position: options.Position = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Without a prompt: how many steps are timed. [default: 640 on a GPU, else 5]"
        ),
    ] = None,
    dtype: options.Matrices = None,
    kv_dtype: options.KvRows = None,
    context: options.Context = None,
    schedule: Annotated[Schedule | None, typer.Option(help="Order of events on the reference target.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Which adversarial schedules are drawn.")] = None,
    load: options.Load = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the new text only.")] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Continue one prompt or several with a model, or run a graph.

    The model's decode step is compiled: passes rewrite its graph, each of them is checked, and the graph after each is
    dumped. By default dumps go to the cache folder, where the latest runs are kept.

    Graphs of files, and models of which only the shapes are known, run on random values: single steps, which are timed.
    So are those of other models if --steps or --position is given in the place of a prompt.
    """
    from forerun.support.diagnostics import InvalidInput

    load_modules(load or ())
    choice = Choice.of(ctx, model, shape)
    talks, shaped = not (quiet or as_json), shape is not None
    named = _with_schedule(target or default_target(shaped=shaped), schedule, seed)
    several = prompt is not None and len(prompt) > 1 and not (shaped or choice.is_graph)
    if prompt is not None and several:
        dtype, kv_dtype = require_prompts(prompt, dtype, kv_dtype)
    plan = DecodePlan.of(named, pipeline, dtype, context, cache=kv_dtype, shaped=shaped)
    if seed is not None and getattr(plan.target, "schedule", None) == Schedule.SERIAL:
        refuse_unused(ctx, ("seed",), "it chooses among adversarial schedules: add --schedule adversarial")
    if shaped or choice.is_graph or (not prompt and (steps is not None or position is not None)):
        values = "random weights" if shaped else "a graph of a file"
        refuse_unused(
            ctx, ("prompt", "max_new_tokens"), f"{values} cannot continue a prompt; leave it out to time steps"
        )
        request = StepsRequest(choice, position, steps, plan, dump)
        return run_steps(request, talks=talks, as_json=as_json, verbose=verbose)
    refuse_unused(ctx, ("steps", "position"), "a prompt decides which steps there are; leave it out to time some")
    if not prompt:
        raise InvalidInput("a prompt is missing", hint='give --prompt "...", or --steps N to time single steps')
    if several:
        asked = PromptsRequest(choice, prompt, plan, dump, max_new_tokens)
        return run_prompts(asked, talks=talks, as_json=as_json, verbose=verbose)
    (text,) = prompt
    streaming = nullcontext() if as_json else _streaming(text, talks=talks)
    generation, summary, folder = _run(choice, text, plan, dump, max_new_tokens, streaming, talks=talks)
    if as_json:
        told = {"model": choice.name, "target": str(plan.target), "dtype": str(plan.dtype), "prompt": text}
        print_json({**told, **_as_json(generation, summary, folder)})
    elif talks:
        _print_account(plan, generation, summary, folder, verbose=verbose)
    return Status.OK


def _run(
    choice: Choice,
    prompt: str,
    plan: DecodePlan,
    dump: str | None,
    most: int,
    streaming: AbstractContextManager[Callable[[str], None] | None],
    *,
    talks: bool,
) -> tuple[Generation, Summary, Path]:
    """What was generated, what the passes did, and the folder of the dumps."""
    from forerun.frontends.generate import generate
    from forerun.frontends.llama import LlamaModel

    model = LlamaModel.open(model_path(str(choice.name), shown=talks))
    folder = new_run_folder(choice.label) if dump is None else Path(dump)
    with progress("reading weights", shown=talks) as told:
        graph = plan.graph(model.config, packings=plan.packings(model))
        weights = model.weights_as(plan.dtype, plan.packings(model))
        executable = compiled(graph, plan, str(folder), weights, told)
    with executable, streaming as on_text:
        generation = generate(executable, model.tokenizer, prompt, most, on_text)
    return generation, executable.summary, folder


def _with_schedule(target: str, schedule: Schedule | None, seed: int | None) -> str:
    """The target's text with the two options that have flags of their own."""
    from forerun.support.diagnostics import InvalidInput
    from forerun.support.option_text import format_item, format_value, parse_item

    flags = {"schedule": schedule and str(schedule), "seed": None if seed is None else str(seed)}
    given = {key: value for key, value in flags.items() if value is not None}
    if not given:
        return target
    item = parse_item(target, "target")
    present = {option.key: format_value(option.value, quote=option.quoted) for option in item.options}
    for key in given:
        if key in present:
            raise InvalidInput(f"--{key} and the target's option '{key}' are both given", hint="give one of them")
    return format_item(item.name, {**present, **given})


@contextmanager
def _streaming(prompt: str, *, talks: bool) -> Iterator[Callable[[str], None]]:
    """A callback that writes text as it comes, after the prompt; a spinner until then. Nothing if the block fails."""
    shown = prompt if talks else ""
    pieces = 0
    with ExitStack() as spinner:
        spinner.enter_context(progress("reading the prompt", shown=talks))

        def on_text(piece: str) -> None:
            nonlocal pieces
            spinner.close()
            write_result(piece if pieces else shown + piece)
            pieces += 1

        yield on_text
    write_result("\n" if pieces else f"{shown}\n")


def _print_account(plan: DecodePlan, generation: Generation, summary: Summary, folder: Path, *, verbose: bool) -> None:
    from rich.text import Text

    console = result_console()
    console.print()
    console.print(pass_table(summary))
    console.print()
    lines = [
        time_sentence(summary),
        promise_sentence(summary),
        f"{plural(generation.steps, 'token')} on {plan.target}, {_rate(generation):.1f} tokens/s{_prefill(generation)}",
    ]
    if verbose:
        lines.append(f"stopped because of: {generation.stop}; tokens: {' '.join(map(str, generation.tokens))}")
        lines += pass_details(summary)
    for line in lines:
        print_plain(console, line)
    print_plain(console, Text.assemble(("dumps: ", "bold"), str(folder)))
    print_plain(console, Text.assemble(("report: ", "bold"), str(folder / "index.html")))


def _rate(generation: Generation) -> float:
    """Tokens a second."""
    seconds = generation.seconds_per_token
    return 1 / seconds if seconds else 0.0


def _prefill(generation: Generation) -> str:
    """How long the prompt took but for its last token, whose step chooses the first new one."""
    before = len(generation.prompt_tokens) - 1
    return f"; {before:,} more of the prompt in {duration(generation.prefill_seconds)}" if before else ""


def _as_json(generation: Generation, summary: Summary, folder: Path) -> dict[str, Any]:
    return {
        "text": generation.text,
        "prompt_tokens": list(generation.prompt_tokens),
        "tokens": list(generation.tokens),
        "stop": generation.stop,
        "prefill_seconds": generation.prefill_seconds,
        "decode_seconds": generation.decode_seconds,
        "tokens_per_second": _rate(generation),
        "dump": str(folder),
        "summary": summary.to_json(),
    }
