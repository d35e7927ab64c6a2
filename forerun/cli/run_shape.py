"""``forerun run llama --shape NAME --random-weights``: single steps of a model that has shapes, but no weights."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun.cli.console import print_json, print_plain, result_console, working
from forerun.cli.decoding import DecodePlan
from forerun.cli.errors import Status
from forerun.cli.files import new_run_folder
from forerun.cli.models import SHAPED_MODEL
from forerun.cli.random_values import fill_state
from forerun.cli.tables import pass_details, pass_table, promise_sentence, time_sentence
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.compiler import Executable
    from forerun.frontends.llama import LlamaConfig

__all__ = ["ShapeRequest", "run_shape"]

_CHAINED = 32
"""The most steps of a graph on a GPU; each feeds the choice of the one before, as in generation."""
_TIMED = {True: 640, False: 5}
"""How many steps are timed, on a GPU and elsewhere."""
_POSITION = 512


@dataclass(frozen=True)
class ShapeRequest:
    """What was asked for. ``has_prompt``: there is a text, which random weights cannot continue."""

    shape: str | None
    random_weights: bool
    position: int | None
    steps: int | None
    plan: DecodePlan
    dump: str | None
    has_prompt: bool


@dataclass(frozen=True)
class _Plan:
    """What follows from it.

    Attributes:
        position: Where the first step of a graph stands.
        chained: The steps of one graph.
        steps: How many are timed.
    """

    position: int
    chained: int
    steps: int

    @classmethod
    def of(cls, request: ShapeRequest, config: LlamaConfig) -> _Plan:
        on_gpu = request.plan.target.name == "cuda"
        steps = request.steps or _TIMED[on_gpu]
        rows = request.plan.context or config.context_length
        position = min(_POSITION, max(0, rows - _CHAINED)) if request.position is None else request.position
        if position >= rows:
            raise InvalidInput(f"position {position} is out of range", hint=f"from 0 to {rows - 1} here")
        return cls(position, min(_CHAINED if on_gpu else 1, steps, rows - position), steps)


def run_shape(request: ShapeRequest, *, talks: bool, as_json: bool, verbose: bool) -> Status:
    """Compile decode steps, run them at one position some times, and tell how long a step took.

    Raises:
        InvalidInput: If the options do not fit together.
    """
    config = _config(request)
    plan = _Plan.of(request, config)
    folder = new_run_folder(config.name) if request.dump is None else Path(request.dump)
    with working("drawing weights and compiling", shown=talks):
        executable = _compile(request, plan, config, folder)
    with executable, working("running", shown=talks):
        token, seconds = _time_steps(executable, plan)
    step = statistics.median(seconds)
    if as_json:
        print_json(_as_json(request, plan, config, executable, token, seconds, folder))
    elif talks:
        _print_account(request, plan, config, executable, step, folder, verbose=verbose)
    return Status.OK


def _config(request: ShapeRequest) -> LlamaConfig:
    from forerun.frontends.llama_config import SHAPES, shape_named

    if request.shape is None:
        raise InvalidInput(f"model '{SHAPED_MODEL}' needs --shape", hint=f"one of {', '.join(SHAPES)}")
    config = shape_named(request.shape)
    if not request.random_weights:
        raise InvalidInput(
            f"shape '{request.shape}' comes without weights",
            hint="add --random-weights, or name a .gguf file instead of 'llama'",
        )
    if request.has_prompt:
        raise InvalidInput("random weights cannot continue a prompt", hint="leave --prompt out; --position says where")
    return config


def _compile(request: ShapeRequest, plan: _Plan, config: LlamaConfig, folder: Path) -> Executable:
    from forerun.frontends.random_weights import RandomWeights

    weights = RandomWeights(config, request.plan.dtype)
    context = request.plan.context or max(plan.position + plan.chained, min(1024, config.context_length))
    return request.plan.compile(config, weights, folder, context, plan.chained)


def _time_steps(executable: Executable, plan: _Plan) -> tuple[int, list[float]]:
    """The token that the last step chose, and the seconds of a step in each sample.

    The rows before ``position`` hold random values. On a GPU, samples are replays back to back, by its own clock.
    """
    import numpy as np

    from forerun.frontends.not_finite import require_finite_logits
    from forerun.measure.step import step_samples

    fill_state(executable)
    token, seconds = 1, list[float]()
    for _ in range(1 if plan.chained > 1 else plan.steps):
        inputs = {"token": np.array([token], np.int32), "position": np.array([plan.position], np.int32)}
        start = time.perf_counter()
        outputs = executable.run(inputs)
        seconds.append(time.perf_counter() - start)
        require_finite_logits(executable, inputs, outputs)
        token = int(outputs["next_token"][-1])
    if plan.chained > 1:
        seconds = [sample / plan.chained for sample in step_samples(executable, plan.steps // plan.chained)]
    return token, seconds


def _print_account(
    request: ShapeRequest,
    plan: _Plan,
    config: LlamaConfig,
    executable: Executable,
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
    last = plan.position + plan.chained - 1
    where = f"position {plan.position}" if plan.chained == 1 else f"positions {plan.position} to {last}"
    how = f"graphs of {plan.chained}, back to back" if plan.chained > 1 else "with the copies of inputs and logits"
    target = request.plan.target
    console.print(f"a step at {where} takes {1e6 * step:,.1f} us on {target} (median of {plan.steps}, {how})")
    size = config.parameters * request.plan.dtype.itemsize
    console.print(f"{size / 1e9:.2f} GB of {request.plan.dtype} weights: {_rate(size / step)}")
    for line in pass_details(executable.summary) if verbose else ():
        print_plain(console, line)
    print_plain(console, f"dumps: {folder}")
    print_plain(console, f"report: {folder / 'index.html'}")


def _as_json(
    request: ShapeRequest,
    plan: _Plan,
    config: LlamaConfig,
    executable: Executable,
    token: int,
    seconds: list[float],
    folder: Path,
) -> dict[str, Any]:
    return {
        "status": "ok",
        "exit_status": 0,
        "shape": request.shape,
        "target": str(request.plan.target),
        "dtype": str(request.plan.dtype),
        "position": plan.position,
        "steps_a_graph": plan.chained,
        "token": token,
        "step_seconds": seconds,
        "median_step_seconds": statistics.median(seconds),
        "parameters": config.parameters,
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
