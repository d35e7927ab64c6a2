"""``forerun tune``: find the launches, triggers and dependencies with which a step is fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli.bench_subject import subject_of
from forerun.cli.console import error_console, print_json, print_plain, result_console
from forerun.cli.decoding import DecodePlan
from forerun.cli.errors import Status, guarded
from forerun.cli.options import (
    BY_TARGET,
    ContextOption,
    GpuOption,
    JsonOption,
    KvOption,
    LoadOption,
    MatricesOption,
    PipelineOption,
    PositionOption,
    ShapeOption,
    SubjectArgument,
    VerboseOption,
)

if TYPE_CHECKING:
    from forerun.tuner import Trial, TuningResult

__all__ = ["tune"]

_STEPS = 2
"""Steps of a model that are tuned together, so that what a step is to the next is measured, too."""


@guarded
def tune(
    model: SubjectArgument = None,
    shape: ShapeOption = None,
    target: GpuOption = "cuda",
    pipeline: PipelineOption = BY_TARGET,
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
    position: PositionOption = None,
    dtype: MatricesOption = None,
    kv_dtype: KvOption = None,
    context: ContextOption = None,
    load: LoadOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> Status:
    """Find the fastest launches and dependencies on a GPU.

    Choices are tried one at a time on the whole graph, checked, measured in pairs A B B A, and kept or undone. Later
    runs of such graphs on this GPU apply them by themselves; --output names another file, for compile(tuning=FILE).
    """
    from forerun.cli.files import load_modules
    from forerun.compiler import KNOWN_TUNING
    from forerun.tuner import tune as tune_graph

    load_modules(load or ())
    plan = DecodePlan.of(target, pipeline, dtype, context, cache=kv_dtype, shaped=shape is not None)
    subject = subject_of(model, shape, position, plan, steps=_STEPS, talks=not as_json, verbose=verbose)

    def tell(trial: Trial, gone: float, limit: float) -> None:
        if not as_json and (verbose or trial.verdict == "kept"):
            print_plain(error_console(), f"{gone:5.1f} of {limit:.0f} s  {trial.brief}")

    result = tune_graph(
        subject.graph,
        plan.target,
        weights=subject.weights,
        inputs=subject.inputs,
        budget_seconds=budget,
        pipeline=plan.pipeline,
        file=output or KNOWN_TUNING,
        begin=begin,
        tolerance=tolerance,
        progress=tell,
    )
    if as_json:
        print_json(_as_json(result, subject.steps))
    else:
        _print_account(result, subject.steps)
    return Status.OK


def _print_account(result: TuningResult, steps: int) -> None:
    console = result_console()
    kept = sum(trial.verdict == "kept" for trial in result.trials if trial.group)
    tried = sum(bool(trial.group) for trial in result.trials)
    gain = result.untuned / result.tuned if result.tuned else 1.0
    before, after = (1e6 * seconds / steps for seconds in (result.untuned, result.tuned))
    console.print(f"a step took {before:.1f} us, and takes {after:.1f} us: {gain:.3f}x")
    ending = "everything was tried" if result.finished else "the budget is spent"
    console.print(f"{kept} of {tried} changes kept in {result.seconds:.1f} s; {ending}")
    print_plain(console, f"tuning: {result.file}")


def _as_json(result: TuningResult, steps: int) -> dict[str, Any]:
    return {
        "status": "ok",
        "exit_status": 0,
        "file": str(result.file),
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
