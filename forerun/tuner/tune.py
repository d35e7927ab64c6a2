"""``forerun.tune``: passes, then the search on the target."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from forerun.compiler import KNOWN_TUNING, prepare
from forerun.ir.graph import Graph
from forerun.ir.trust import Trusted, trusting
from forerun.passes.infra.pipeline import BY_TARGET, PipelineLike
from forerun.passes.infra.tuning import DEFAULT_TOLERANCE
from forerun.runtime.base import Target, resolve_target
from forerun.runtime.cache_folder import tunings_folder
from forerun.runtime.device import DeviceTarget
from forerun.support.diagnostics import InvalidInput, Unsupported

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from forerun.tuner.search import Progress, Search, TuningResult

__all__ = ["tune"]


def tune(
    graph: Graph,
    target: str | Target = "cuda",
    *,
    weights: Mapping[str, ArrayLike],
    inputs: Mapping[str, ArrayLike] | None = None,
    budget_seconds: float = 60.0,
    pipeline: PipelineLike = BY_TARGET,
    file: str | Path | None = KNOWN_TUNING,
    begin: str | Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    progress: Progress | None = None,
    search: Search | None = None,
    trust: Trusted | Collection[Trusted] = (),
) -> TuningResult:
    """Find the launches, triggers, dependencies and hoists with which a graph is fastest on a target.

    Every choice is measured on the whole graph, and undone if it does not make it faster. Results are compared with
    those of the untuned graph before any time is believed: bit by bit where only starts are moved, within the tolerance
    where launches change, since sums may be made in another order then. If nothing is faster in the end, the untuned
    graph is returned.

    Args:
        graph: The program, before its passes.
        target: Where; it must be able to time replays.
        weights: As for :func:`forerun.compile`.
        inputs: What replays run on; by default the middle of the inputs' bounds, and random numbers.
        budget_seconds: How long it may take.
        pipeline: The passes, by default ``fast``; the choices are made on what they return.
        file: Where the choices are written, also whenever one is kept, so that they survive an interruption. By default
            among those of the user's cache, where :func:`forerun.compile` finds them by itself; ``None`` writes none.
        begin: A tuning file of the same GPU and driver, whose choices are tried first. Those for groups that the graph
            does not have stay in the result.
        tolerance: Relative L2 norm by which a buffer may differ where launches change.
        progress: Called with each trial, the seconds gone and the budget.
        search: Another manner of searching; its measurements, budget and GPU are replaced.
        trust: As for :func:`forerun.compile`.

    Returns:
        The tuned graph, the choices, and what was tried.

    Raises:
        InvalidInput: If the graph, an input or a file is wrong, or the budget is not positive.
        Unsupported: If the target has no clock.
        Refuted: If the graph, or what a pass made of it, has a race.
    """
    if not budget_seconds > 0:
        raise InvalidInput(f"a budget of {budget_seconds} seconds leaves no time", hint="60 is usual")
    resolved = resolve_target(target)
    if not isinstance(resolved, DeviceTarget):
        message = f"target '{resolved.name}' cannot time replays"
        raise Unsupported(message, hint="tune with target='cuda', on a machine with an NVIDIA GPU")
    # Only who tunes waits for these to be imported.
    from forerun.passes.infra.known_tunings import file_name
    from forerun.passes.infra.tuning import Tuning, read_tuning, write_tuning
    from forerun.tuner.runner import Runner, usual_inputs
    from forerun.tuner.search import Search

    identity = resolved.identity()
    known = Tuning(*identity, tolerance=tolerance)
    if begin is not None:
        before = read_tuning(begin)
        misfit = before.misfit(*identity)
        if misfit:
            raise InvalidInput(f"cannot start from tuning file {begin}: {misfit}")
        known = replace(known, choices=before.choices)
    chosen = search or Search(measure=lambda graph: 0.0)
    with ExitStack() as stack:
        stack.enter_context(trusting(trust))
        start = prepare(graph, resolved, pipeline, tuning=None).graph
        path = tunings_folder() / file_name(start, identity[0]) if file == KNOWN_TUNING else file
        given = usual_inputs(start) if inputs is None else inputs
        runner = stack.enter_context(Runner(resolved, weights, given, tolerance))
        runner.seconds(start)
        chosen.measure, chosen.same_results = runner.seconds, runner.same_results
        chosen.confirm, chosen.prepare = runner.confirm, runner.prepare
        chosen.budget, chosen.progress = budget_seconds, progress
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            chosen.save = partial(write_tuning, path=path)
        chosen.multiprocessors = resolved.multiprocessors()
        result = chosen.run(start, known)
    if path is not None:
        write_tuning(result.tuning, path)
        result = replace(result, file=Path(path))
    return result
