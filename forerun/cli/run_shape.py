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
from forerun.cli.tables import pass_details, pass_table, time_sentence
from forerun.report.words import duration

if TYPE_CHECKING:
    from forerun.compiler import Executable
    from forerun.frontends.llama import LlamaConfig

__all__ = ["ShapeRequest", "run_shape"]

_WARM_UP = 3


@dataclass(frozen=True)
class ShapeRequest:
    """What was asked for. ``has_prompt``: there is a text, which random weights cannot continue."""

    shape: str | None
    random_weights: bool
    position: int
    steps: int
    plan: DecodePlan
    dump: str | None
    has_prompt: bool


def run_shape(request: ShapeRequest, *, talks: bool, as_json: bool, verbose: bool) -> Status:
    """Compile the decode step, run it at one position some times, and tell how long a step took.

    Raises:
        InvalidInput: If the options do not fit together.
    """
    config = _config(request)
    folder = new_run_folder(config.name) if request.dump is None else Path(request.dump)
    with working("drawing weights and compiling", shown=talks):
        executable = _compile(request, config, folder)
    with executable, working("running", shown=talks):
        token, seconds = _time_steps(executable, request.position, request.steps)
    step = statistics.median(seconds)
    if as_json:
        print_json(_as_json(request, config, executable, token, seconds, folder))
    elif talks:
        _print_account(request, config, executable, step, folder, verbose=verbose)
    return Status.OK


def _config(request: ShapeRequest) -> LlamaConfig:
    from forerun.frontends.llama_config import SHAPES, shape_named
    from forerun.support.diagnostics import InvalidInput

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
    if request.position >= config.context_length:
        limit = config.context_length - 1
        raise InvalidInput(f"position {request.position} is out of range", hint=f"from 0 to {limit} for this shape")
    return config


def _compile(request: ShapeRequest, config: LlamaConfig, folder: Path) -> Executable:
    from forerun.frontends.random_weights import RandomWeights

    weights = RandomWeights(config, request.plan.dtype)
    context = request.plan.context or max(request.position + 1, min(1024, config.context_length))
    return request.plan.compile(config, weights, folder, context)


def _time_steps(executable: Executable, position: int, count: int) -> tuple[int, list[float]]:
    """The token that the last step chose, and the seconds of each. The rows before ``position`` hold random values."""
    import numpy as np

    from forerun.frontends.not_finite import require_finite_logits

    fill_state(executable)
    token, seconds = 1, []
    for number in range(_WARM_UP + count):
        start = time.perf_counter()
        inputs = {"token": np.array([token], np.int32), "position": np.array([position], np.int32)}
        outputs = executable.run(inputs)
        if number >= _WARM_UP:
            seconds.append(time.perf_counter() - start)
        require_finite_logits(executable, inputs, outputs)
        token = int(outputs["next_token"][0])
    return token, seconds


def _print_account(
    request: ShapeRequest, config: LlamaConfig, executable: Executable, step: float, folder: Path, *, verbose: bool
) -> None:
    console = result_console()
    console.print(pass_table(executable.summary))
    console.print()
    console.print(time_sentence(executable.summary))
    console.print(
        f"a step at position {request.position} takes {duration(step)} on {request.plan.target} "
        f"(median of {request.steps}, with the copies of inputs and logits)"
    )
    size = config.parameters * request.plan.dtype.itemsize
    console.print(f"{size / 1e9:.2f} GB of {request.plan.dtype} weights: {size / step / 1e9:,.0f} GB/s")
    for line in pass_details(executable.summary) if verbose else ():
        print_plain(console, line)
    print_plain(console, f"dumps: {folder}")
    print_plain(console, f"report: {folder / 'index.html'}")


def _as_json(
    request: ShapeRequest, config: LlamaConfig, executable: Executable, token: int, seconds: list[float], folder: Path
) -> dict[str, Any]:
    return {
        "status": "ok",
        "exit_status": 0,
        "shape": request.shape,
        "target": str(request.plan.target),
        "dtype": str(request.plan.dtype),
        "position": request.position,
        "token": token,
        "step_seconds": seconds,
        "median_step_seconds": statistics.median(seconds),
        "parameters": config.parameters,
        "dump": str(folder),
        "summary": executable.summary.to_json(),
    }
