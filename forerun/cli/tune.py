"""``forerun tune``: find the launches, triggers and dependencies with which a step is fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli import options
from forerun.cli.console import account_console, error_console, print_json, print_plain
from forerun.cli.decoding import DecodePlan, require_clock
from forerun.cli.errors import Status, guarded, leading_on
from forerun.cli.files import STANDARD, load_modules, require_one_result, write_text
from forerun.cli.progress import progress
from forerun.cli.subject import Choice
from forerun.report.words import plural

if TYPE_CHECKING:
    from rich.console import Console

    from forerun.tuner import Trial, TuningResult

__all__ = ["tune"]

_STEPS = 2
"""Steps of a model that are tuned together, so that what a step is to the next is measured, too."""


@guarded
def tune(
    ctx: typer.Context,
    model: options.Subject = None,
    shape: options.Shape = None,
    random_weights: options.RandomWeights = False,
    target: options.Gpu = "cuda",
    pipeline: options.GpuPipeline = options.BY_TARGET,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the choices go, as JSON. [default: the user's cache, where run, bench and compile find them]",
        ),
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="A tuning file whose choices are tried first.")
    ] = None,
    budget: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long it may take.")] = 60.0,
    tolerance: Annotated[
        float, typer.Option(min=0.0, metavar="X", help="Relative L2 by which results may differ where launches change.")
    ] = 1e-4,
    position: options.Position = None,
    dtype: options.Matrices = None,
    kv_dtype: options.KvRows = None,
    context: options.Context = None,
    load: options.Load = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Find the fastest launches and dependencies on a GPU.

    Choices are tried one at a time on the whole graph, checked, measured in pairs A B B A, and kept or undone. Later
    runs of such graphs on this GPU apply them by themselves; --output names another file, for compile(tuning=FILE).
    """
    from forerun.compiler import KNOWN_TUNING
    from forerun.passes.infra.tuning import tuning_text
    from forerun.tuner import tune as tune_graph

    require_one_result(output, as_json=as_json)
    load_modules(load or ())
    choice = Choice.of(ctx, model, shape)
    plan = DecodePlan.of(target, pipeline, dtype, context, cache=kv_dtype, shaped=shape is not None)
    on_the_cpu = f"'forerun run {choice.words} --target reference' times steps on the CPU"
    require_clock(plan, on_the_cpu)
    talks = not as_json
    with (
        leading_on(f"{on_the_cpu}; 'forerun info' shows what was looked for"),
        progress("reading", shown=talks) as told,
    ):
        subject = choice.load(plan, position, chained=_STEPS, talks=talks, verbose=verbose)
        told("compiling")

        def tell(trial: Trial, gone: float, limit: float) -> None:
            told(trial.brief, done=gone, total=limit)
            if talks and (verbose or trial.verdict == "kept"):
                print_plain(error_console(), f"{gone:5.1f} of {limit:.0f} s  {trial.brief}")

        result = tune_graph(
            subject.graph,
            plan.target,
            weights=subject.weights,
            inputs=subject.inputs,
            budget_seconds=budget,
            pipeline=plan.pipeline,
            file=None if output == STANDARD else output or KNOWN_TUNING,
            begin=begin,
            tolerance=tolerance,
            progress=tell,
        )
    if output == STANDARD:
        write_text(STANDARD, tuning_text(result.tuning))
    if as_json:
        print_json(_as_json(result, subject.chained))
    else:
        _print_account(account_console(output), result, subject.chained)
    return Status.OK


def _print_account(console: Console, result: TuningResult, steps: int) -> None:
    kept = sum(trial.verdict == "kept" for trial in result.trials if trial.group)
    tried = sum(bool(trial.group) for trial in result.trials)
    gain = result.untuned / result.tuned if result.tuned else 1.0
    before, after = (1e6 * seconds / steps for seconds in (result.untuned, result.tuned))
    console.print(f"a step took {before:.1f} us, and takes {after:.1f} us: {gain:.3f}x")
    ending = "everything was tried" if result.finished else "the budget is spent"
    console.print(f"{kept} of {plural(tried, 'change')} kept in {result.seconds:.1f} s; {ending}")
    if result.file is not None:
        print_plain(console, f"tuning: {result.file}")


def _as_json(result: TuningResult, steps: int) -> dict[str, Any]:
    return {
        "file": None if result.file is None else str(result.file),
        "gpu": result.tuning.gpu,
        "driver": result.tuning.driver,
        "untuned_us": result.untuned * 1e6 / steps,
        "tuned_us": result.tuned * 1e6 / steps,
        "seconds": result.seconds,
        "finished": result.finished,
        "trials": [
            {
                "group": trial.group,
                "what": trial.what,
                "verdict": trial.verdict,
                "before_us": trial.before * 1e6,
                "after_us": trial.after * 1e6,
                "reason": trial.reason,
            }
            for trial in result.trials
        ],
    }
