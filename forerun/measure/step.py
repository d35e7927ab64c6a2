"""One step of a program on a GPU: compared, timed, and looked at from within."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forerun.measure.statistics import Metric, bootstrap_median, bootstrap_median_ratio, paired
from forerun.runtime.timeline import Timeline

if TYPE_CHECKING:
    from forerun.compiler import Executable
    from forerun.runtime.cuda.target import CudaTarget

__all__ = [
    "Difference",
    "StepTimes",
    "differences",
    "relative_l2",
    "step_samples",
    "time_pair",
    "time_step",
    "timeline_of_step",
]

_WARM_UP, _TIMELINES = 3, 5
_BATCHES = 20
"""The least number of samples, if there are as many steps; a batch of back-to-back replays is a sample."""
_MOST_IN_A_BATCH = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """How far an output is from what it should be.

    Attributes:
        output: Its name.
        relative_l2: Norm of the difference by the norm of what it should be.
        same_argmax: Whether the largest element is the same one.
    """

    output: str
    relative_l2: float
    same_argmax: bool


def relative_l2(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The norm of the difference of two arrays by the norm of the second, in f64; of zeros, the norm itself.

    Example:
        >>> relative_l2(np.array([3.0, 4.5]), np.array([3.0, 4.0]))
        0.1
    """
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    return float(np.linalg.norm(a - b)) / (float(np.linalg.norm(b)) or 1.0)


def differences(given: Mapping[str, NDArray[Any]], wanted: Mapping[str, NDArray[Any]]) -> list[Difference]:
    """Compare outputs, the worst first.

    Example:
        >>> differences({"y": np.array([3.0, 4.5])}, {"y": np.array([3.0, 4.0])})
        [Difference(output='y', relative_l2=0.1, same_argmax=True)]
    """
    found = []
    for name, value in wanted.items():
        actual, expected = given[name].ravel(), value.ravel()
        same = not len(expected) or int(actual.argmax()) == int(expected.argmax())
        found.append(Difference(name, relative_l2(actual, expected), same))
    return sorted(found, key=lambda d: (not np.isnan(d.relative_l2), -d.relative_l2))


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Microseconds of a step of two programs, and how many times faster the first is."""

    first: Metric
    second: Metric
    speedup: Metric


def time_step(program: Executable, steps: int) -> Metric:
    """Microseconds of a step: the median over batches of back-to-back replays, by the clock of the GPU."""
    return _microseconds(step_samples(program, steps))


def step_samples(program: Executable, replays: int) -> list[float]:
    """Seconds of a replay, in each of several batches of back-to-back replays, after one to warm up."""
    batch = _batch(replays, 1)
    program.seconds_per_replay(batch)
    return [program.seconds_per_replay(batch) for _ in range(max(1, replays // batch))]


def time_pair(first: Executable, second: Executable, steps: int) -> StepTimes:
    """Microseconds of a step of each of two programs, in the order A B B A, so that linear drift cancels."""
    batch = _batch(steps, 2)
    rounds = max(1, steps // (2 * batch))
    a, b = paired(lambda: first.seconds_per_replay(batch), lambda: second.seconds_per_replay(batch), rounds)
    return StepTimes(_microseconds(a), _microseconds(b), bootstrap_median_ratio(b, a))


def _batch(steps: int, batches_a_sample: int) -> int:
    return min(_MOST_IN_A_BATCH, max(1, steps // (_BATCHES * batches_a_sample)))


def _microseconds(samples: list[float]) -> Metric:
    return bootstrap_median([1e6 * seconds for seconds in samples], "us")


def timeline_of_step(
    target: CudaTarget, program: Executable, inputs: Mapping[str, Any], prepare: Callable[[Executable], object]
) -> Timeline:
    """When the kernels of a step do what: the replay of median length of a few.

    The kernels are compiled once more, with timestamps; weights are used where they are.
    """
    from forerun.compiler import Executable

    graph = program.graph
    names = [buffer.name for buffer in graph.buffers.values() if buffer.needs_value]
    weights = {name: program.buffer(name) for name in names}
    with Executable(graph, program.summary, replace(target, timeline=True).load(graph, weights)) as stamped:
        prepare(stamped)
        timelines: list[Timeline] = []
        for number in range(_WARM_UP + _TIMELINES):
            stamped.run(inputs)
            if number >= _WARM_UP:
                timelines.append(stamped.timeline())
    return sorted(timelines, key=lambda timeline: timeline.nanoseconds)[_TIMELINES // 2]
