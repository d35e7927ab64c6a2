"""``forerun bench``: how long does a step take, and where does the time go?"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli import options
from forerun.cli.console import account_console, print_json, print_plain
from forerun.cli.decoding import DecodePlan, compiled, require_clock
from forerun.cli.errors import Status, guarded, leading_on
from forerun.cli.files import load_modules, require_one_result, write_text
from forerun.cli.progress import Progress, progress
from forerun.cli.random_values import fill_state
from forerun.cli.subject import Choice, Subject
from forerun.cli.tables import roofline_table
from forerun.report.words import plural

if TYPE_CHECKING:
    from rich.console import Console

    from forerun.compiler import Executable
    from forerun.measure.node_table import Row
    from forerun.measure.statistics import Metric
    from forerun.measure.step import Difference
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.passes.infra.summary import Summary
    from forerun.runtime.timeline import Timeline

__all__ = ["bench"]

TOLERANCE = 0.02
"""Relative L2 from which outputs of two pipelines count as different: fusion and order of sums stay far below."""


@dataclass(frozen=True)
class _Benchmark:
    """What was measured."""

    subject: Subject
    target: str
    gpu: str
    pipelines: tuple[Pipeline, ...]
    steps: tuple[Metric, ...]
    speedup: Metric | None
    differences: tuple[Difference, ...]
    ceiling: float
    timeline: Timeline
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]


@guarded
def bench(
    ctx: typer.Context,
    model: options.Subject = None,
    shape: options.Shape = None,
    random_weights: options.RandomWeights = False,
    target: options.Gpu = "cuda",
    pipeline: options.GpuPipeline = options.BY_TARGET,
    against: Annotated[
        str | None, options.passes_option(help="A second pipeline: outputs are compared, then times, in pairs A B B A.")
    ] = None,
    position: options.Position = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="How many replays are timed.")] = 320,
    dtype: options.Matrices = None,
    kv_dtype: options.KvRows = None,
    context: options.Context = None,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a trace of one step, for ui.perfetto.dev.")
    ] = None,
    dump: options.Dump = None,
    load: options.Load = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Time a step on a GPU, and tell where the time goes.

    For each kernel: the bytes that it must move, the part of the step that it accounts for, its share of the GPU's read
    bandwidth (measured in the same run), and how long it waits. -v tells it for every node.

    Exit status 1 means that the outputs of the two pipelines differ; nothing is timed then.
    """
    from forerun.passes.infra.pipeline import Pipeline

    require_one_result(trace, as_json=as_json)
    load_modules(load or ())
    choice = Choice.of(ctx, model, shape)
    plan = DecodePlan.of(target, pipeline, dtype, context, cache=kv_dtype, shaped=shape is not None)
    on_the_cpu = f"'forerun run {choice.words} --target reference' times steps on the CPU"
    require_clock(plan, on_the_cpu)
    with leading_on(f"{on_the_cpu}; 'forerun info' shows what was looked for"):
        gpu = _open_gpu(plan)
    other = None if against is None else Pipeline.parse(against)
    with progress("reading", shown=not as_json) as told:
        subject = choice.load(plan, position, talks=not as_json, verbose=verbose)
        measured = _measure(subject, plan, gpu, other, steps, dump, told)
    if trace is not None:
        from forerun.measure.trace import trace_of

        write_text(trace, json.dumps(trace_of(measured.timeline), separators=(",", ":")) + "\n")
    if as_json:
        print_json({**_as_json(measured), "trace": trace, "dump": dump})
        return Status.OK
    console = account_console(trace)
    _print_account(console, measured, verbose=verbose)
    for name, path in (("trace", trace), ("dumps", dump)):
        if path is not None:
            print_plain(console, f"{name}: {path}")
    return Status.OK


def _open_gpu(plan: DecodePlan) -> str:
    """The GPU's name.

    Raises:
        Unsupported: If there is none.
    """
    from forerun.runtime.cuda.driver.device import open_device
    from forerun.runtime.cuda.driver.driver import driver
    from forerun.runtime.cuda.target import CudaTarget

    assert isinstance(plan.target, CudaTarget)
    return open_device(driver(), plan.target.device).name


# Measuring


def _measure(
    subject: Subject, plan: DecodePlan, gpu: str, other: Pipeline | None, steps: int, dump: str | None, told: Progress
) -> _Benchmark:
    from forerun.measure.bandwidth import read_bandwidth
    from forerun.measure.node_table import node_rows
    from forerun.measure.step import time_pair, time_step, timeline_of_step
    from forerun.runtime.cuda.target import CudaTarget

    assert isinstance(plan.target, CudaTarget)
    with ExitStack() as stack:
        first = stack.enter_context(_compile(subject, plan, plan.pipeline, dump, told))
        outputs = first.run(subject.inputs)
        found: list[Difference] = []
        if other is None:
            told("timing")
            times, speedup = [time_step(first, steps)], None
        else:
            second = stack.enter_context(_compile(subject, plan, other, None, told))
            found = _compare(outputs, second.run(subject.inputs))
            told("timing")
            pair = time_pair(first, second, steps)
            times, speedup = [pair.first, pair.second], pair.speedup
        told("looking at a step")
        timeline = timeline_of_step(plan.target, first, subject.inputs, fill_state)
        rows = node_rows(first.graph, timeline, first.read)
        ceiling = read_bandwidth(plan.target)
    pipelines = (plan.pipeline, *([] if other is None else [other]))
    target, remarks = str(plan.target), tuple(first.summary.remarks)
    measured = (tuple(times), speedup, tuple(found), ceiling, timeline, tuple(rows))
    benchmark = _Benchmark(subject, target, gpu, pipelines, *measured, remarks)
    if dump is not None:
        _dump(Path(dump), benchmark, first.summary)
    return benchmark


def _compile(subject: Subject, plan: DecodePlan, pipeline: Pipeline, dump: str | None, told: Progress) -> Executable:
    executable = compiled(subject.graph, plan, dump, subject.weights, told, pipeline)
    try:
        fill_state(executable)
    except BaseException:
        executable.close()
        raise
    return executable


def _compare(given: dict[str, Any], wanted: dict[str, Any]) -> list[Difference]:
    """How far apart the outputs of two pipelines are.

    Raises:
        Refuted: If they are not the same but for rounding.
    """
    from forerun.measure.step import differences
    from forerun.support.diagnostics import Refuted

    found = differences(given, wanted)
    if found and not found[0].relative_l2 <= TOLERANCE:
        worst = found[0]
        message = f"the pipelines disagree: output '{worst.output}' differs by {worst.relative_l2:.2g} (relative L2)"
        raise Refuted(message, hint=f"a difference above {TOLERANCE} is more than rounding; nothing was timed")
    return found


def _dump(folder: Path, found: _Benchmark, summary: Summary) -> None:
    """Add the measurement to the dump, where the report draws it."""
    from forerun.passes.instrument import Dump
    from forerun.report import BENCH_FILE, TIMELINE_FILE, write_report

    told = {"format": "forerun bench 1", "status": "ok", "exit_status": 0, **_as_json(found)}
    for name, value in ((BENCH_FILE, told), (TIMELINE_FILE, found.timeline.to_json())):
        write_text(str(folder / name), json.dumps(value, separators=(",", ":")) + "\n")
        summary.files.append(name)
    Dump.rewrite_summary(summary)
    write_report(folder)


# Telling


def _print_account(console: Console, found: _Benchmark, *, verbose: bool) -> None:
    from forerun.measure.node_table import by_kernel, total
    from forerun.passes.infra.named_pipelines import name_of

    place = "" if found.subject.position is None else f" at position {found.subject.position}"
    print_plain(console, f"{found.subject.graph.name}{place} on {found.gpu}")
    for pipeline, metric in zip(found.pipelines, found.steps, strict=True):
        print_plain(console, f"{_interval(metric, 1)}  {name_of(str(pipeline)) or pipeline or 'no passes'}")
    if found.speedup is not None:
        worst = found.differences[0] if found.differences else None
        print_plain(console, f"{_interval(found.speedup, 3)} times as fast as the second")
        if worst is not None:
            changed = [difference.output for difference in found.differences if not difference.same_argmax]
            largest = f"largest element of {', '.join(changed)} is another" if changed else "same largest elements"
            print_plain(console, f"outputs agree to {worst.relative_l2:.1e} (relative L2); {largest}")
    step = total("step", found.rows)
    rows = list(found.rows) if verbose else by_kernel(found.rows)
    console.print()
    console.print(roofline_table("node" if verbose else "kernel", rows, step, found.ceiling))
    console.print()
    stamped = found.timeline.nanoseconds / 1e3
    console.print(f"one step of {stamped:.1f} us, replayed alone, with timestamps; work, gap and early: us a node")
    console.print(f"ceiling: {found.ceiling / 1e9:,.0f} GB/s, measured now by reading memory once from end to end")
    left_out = found.timeline.untimed + len(found.timeline.spans)
    if left_out:
        console.print(f"not in the table: {plural(left_out, 'node')} (copies, host work, foreign kernels)")
    for remark in found.remarks if verbose else ():
        print_plain(console, f"machine code: {remark}")
    if found.remarks and not verbose:
        console.print(f"{plural(len(found.remarks), 'remark')} on the machine code; -v shows them")


def _interval(metric: Metric, places: int) -> str:
    unit = "" if metric.unit == "ratio" else f" {metric.unit}"
    return f"{metric.value:,.{places}f}{unit} ({metric.low:,.{places}f} to {metric.high:,.{places}f})"


def _as_json(found: _Benchmark) -> dict[str, Any]:
    from forerun.measure.node_table import by_kernel, total

    step = total("step", found.rows)
    return {
        "graph": found.subject.graph.name,
        "position": found.subject.position,
        "target": found.target,
        "gpu": found.gpu,
        "pipelines": [
            {"pipeline": str(pipeline), "step_us": asdict(metric)}
            for pipeline, metric in zip(found.pipelines, found.steps, strict=True)
        ],
        "speedup": None if found.speedup is None else asdict(found.speedup),
        "differences": [asdict(difference) for difference in found.differences],
        "read_bandwidth_gbs": found.ceiling / 1e9,
        "stamped_step_us": found.timeline.nanoseconds / 1e3,
        "untimed_nodes": found.timeline.untimed,
        "remarks": list(found.remarks),
        "step": step.to_json(found.ceiling),
        "kernels": [row.to_json(found.ceiling) for row in by_kernel(found.rows)],
        "nodes": [row.to_json(found.ceiling) for row in found.rows],
    }
