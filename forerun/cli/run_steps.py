"""``forerun run`` without a prompt: steps of a graph, or of a model, at one position, which are timed."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun.cli.console import print_json, print_plain, result_console
from forerun.cli.decoding import DecodePlan, compiled
from forerun.cli.errors import Status
from forerun.cli.files import new_run_folder
from forerun.cli.progress import Progress, progress
from forerun.cli.random_values import fill_state
from forerun.cli.subject import Choice, Subject
from forerun.cli.tables import pass_details, pass_table, promise_sentence, time_sentence
from forerun.report.words import duration

if TYPE_CHECKING:
    from forerun.compiler import Executable

__all__ = ["StepsRequest", "run_steps"]

_CHAINED = 32
"""The most decode steps of a graph on a GPU; each feeds the choice of the one before, as in generation."""
_TIMED = {True: 640, False: 5}
"""How many steps are timed, on a GPU and elsewhere."""
_SHOWN_VALUES = 4


@dataclass(frozen=True)
class StepsRequest:
    """What was asked for."""

    choice: Choice
    position: int | None
    steps: int | None
    plan: DecodePlan
    dump: str | None

    @property
    def on_gpu(self) -> bool:
        """Whether replays can be back to back, by the clock of the GPU."""
        return self.plan.target.name == "cuda"

    @property
    def count(self) -> int:
        """How many steps are timed."""
        return self.steps or _TIMED[self.on_gpu]


def run_steps(request: StepsRequest, *, talks: bool, as_json: bool, verbose: bool) -> Status:
    """Compile, run some times, and tell how long a step took.

    Raises:
        InvalidInput: If the subject is not there, or the position does not fit.
    """
    chained = min(_CHAINED if request.on_gpu else 1, request.count)
    with progress("reading", shown=talks) as told:
        subject = request.choice.load(request.plan, request.position, chained=chained, talks=talks, verbose=verbose)
        folder = new_run_folder(request.choice.label) if request.dump is None else Path(request.dump)
        with compiled(subject.graph, request.plan, str(folder), subject.weights, told) as executable:
            told("running")
            outputs, seconds = _time_steps(executable, subject, request, told)
    if as_json:
        print_json(_as_json(request, subject, executable, outputs, seconds, folder))
    elif talks:
        _print_account(request, subject, executable, outputs, statistics.median(seconds), folder, verbose=verbose)
    return Status.OK


def _time_steps(
    executable: Executable, subject: Subject, request: StepsRequest, told: Progress
) -> tuple[dict[str, Any], list[float]]:
    """The outputs of the last replay, and the seconds of a step in each sample.

    State is random before the first. Decode steps feed the token that the last one chose. On a GPU, samples are replays
    back to back, by its own clock.
    """
    import numpy as np

    from forerun.frontends.not_finite import require_finite_logits
    from forerun.measure.step import step_samples

    fill_state(executable)
    inputs, seconds = dict(subject.inputs), list[float]()
    outputs: dict[str, Any] = {}
    for number in range(1 if request.on_gpu else request.count):
        start = time.perf_counter()
        outputs = executable.run(inputs)
        seconds.append(time.perf_counter() - start)
        told(done=number + 1, total=request.count)
        if subject.config is not None:
            require_finite_logits(executable, {k: np.asarray(v, np.int32) for k, v in inputs.items()}, outputs)
            inputs["token"] = outputs["next_token"][-1:]
    if request.on_gpu:
        replays = max(1, request.count // subject.chained)
        seconds = [sample / subject.chained for sample in step_samples(executable, replays)]
    return outputs, seconds


def _print_account(
    request: StepsRequest,
    subject: Subject,
    executable: Executable,
    outputs: dict[str, Any],
    step: float,
    folder: Path,
    *,
    verbose: bool,
) -> None:
    console = result_console()
    console.print(pass_table(executable.summary))
    console.print()
    console.print(time_sentence(executable.summary))
    console.print(promise_sentence(executable.summary))
    how = "back to back" if request.on_gpu else "with the copies of inputs and outputs"
    how = f"graphs of {subject.chained}, {how}" if subject.chained > 1 else how
    length = f"{1e6 * step:,.1f} us" if step < 0.01 else duration(step)
    told = f"a step{_where(subject)} takes {length} on {request.plan.target}"
    console.print(f"{told} (median of {request.count}, {how})")
    size = _weight_bytes(subject)
    if size >= 1e7:
        console.print(f"{size / 1e9:.2f} GB of weights: {_rate(size / step)}")
    if subject.config is None:
        for name, value in outputs.items():
            shown = " ".join(f"{element:g}" for element in value.reshape(-1)[:_SHOWN_VALUES])
            more = " ..." if value.size > _SHOWN_VALUES else ""
            print_plain(console, f"output %{name}, {value.dtype}{list(value.shape)}: {shown}{more}")
    for line in pass_details(executable.summary) if verbose else ():
        print_plain(console, line)
    print_plain(console, f"dumps: {folder}", f"report: {folder / 'index.html'}")


def _where(subject: Subject) -> str:
    if subject.position is None:
        return ""
    last = subject.position + subject.chained - 1
    return f" at position {last}" if subject.chained == 1 else f" at positions {subject.position} to {last}"


def _weight_bytes(subject: Subject) -> int:
    from forerun.ir.types import BufferRole

    return sum(buffer.size for buffer in subject.graph.buffers.values() if buffer.role is BufferRole.WEIGHT)


def _as_json(
    request: StepsRequest,
    subject: Subject,
    executable: Executable,
    outputs: dict[str, Any],
    seconds: list[float],
    folder: Path,
) -> dict[str, Any]:
    config = subject.config
    model = (
        {
            "shape": request.choice.shape,
            "dtype": str(request.plan.dtype),
            "token": int(outputs["next_token"][-1]),
            "parameters": config.parameters,
        }
        if config is not None
        else {}
    )
    return {
        "graph": subject.graph.name,
        **model,
        "target": str(request.plan.target),
        "position": subject.position,
        "steps_a_graph": subject.chained,
        "step_seconds": seconds,
        "median_step_seconds": statistics.median(seconds),
        "weight_bytes": _weight_bytes(subject),
        "dump": str(folder),
        "summary": executable.summary.to_json(),
    }


def _rate(bytes_a_second: float) -> str:
    """Bytes a second in words; small ones keep a digit.

    Example:
        >>> _rate(3.52e8), _rate(3.1e12)
        ('0.4 GB/s', '3,100 GB/s')
    """
    rate = bytes_a_second / 1e9
    return f"{rate:,.0f} GB/s" if rate >= 10 else f"{rate:.1f} GB/s"
