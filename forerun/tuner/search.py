"""Coordinate descent over the choices of a graph, judged by measurements that others make.

First one change in all groups that can have it, since neighbours share multiprocessors; then one group at a time, those
first that take most of the time. A change is kept if the whole graph is faster with it, and undone if not. The two are
measured in the order A B B A, so that drift falls out, and twice: what a few rounds say is faster is loaded again,
proved, and must be faster in more rounds, with all of the interval. In the end the result is measured against the
start once more, and given up if it is not faster: so it is never slower than the start, as far as clocks can tell.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from forerun.ir.graph import Graph
from forerun.ir.semantics import check
from forerun.measure.statistics import turn
from forerun.passes.apply_tuning import ApplyTuning, apply_tuning
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.tuning import Choice, Tuning
from forerun.support.diagnostics import ForerunError
from forerun.tuner.moves import GroupFacts, JointMove, group_facts, joint_moves, moves

__all__ = ["Measure", "Progress", "SameResults", "Search", "Trial", "TuningResult"]

Measure = Callable[[Graph], float]
"""Seconds of one replay of a graph. What it cannot run it refuses with a :class:`ForerunError`."""
SameResults = Callable[[Graph, Graph | None], str]
"""Why a graph does not compute what another does bit by bit, or what the first does within a tolerance; or nothing."""
Confirm = Callable[[Graph], str]
"""Why a graph that was tried cannot be kept; or nothing."""
Prepare = Callable[[Sequence[Graph]], object]
"""Called with graphs that will be tried soon: their kernels can be compiled while nothing is timed."""

_AHEAD = 32
"""Kernels that are compiled ahead: two for each of the processors that machines with a GPU have."""

Verdict = Literal["kept", "undone", "refused"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that was tried.

    Attributes:
        group: What it was about, such as ``7 groups``; empty for the last comparison of all.
        what: What was changed.
        verdict: ``kept``, ``undone`` since it was not faster, or ``refused`` since it cannot be run, or is not right.
        before: Seconds of a replay without it; 0 if it was refused.
        after: Seconds with it.
        reason: Why it was refused.
    """

    group: str
    what: str
    verdict: Verdict
    before: float = 0.0
    after: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        if self.verdict == "refused":
            return f"{self.group}: {self.what}: refused: {self.reason}"
        return f"{self.group}: {self.what}: {self.before * 1e6:.1f} -> {self.after * 1e6:.1f} us, {self.verdict}"

    @property
    def brief(self) -> str:
        """One line without the shapes of the group's buffers."""
        return str(replace(self, group=self.group.partition("(")[0].rpartition("#")[2]))


Progress = Callable[[Trial, float, float], object]
"""Called with each trial, the seconds gone and the budget."""


@dataclass(frozen=True)
class TuningResult:
    """What tuning came to.

    Attributes:
        graph: The tuned graph; the one that tuning began with if nothing is faster.
        tuning: What was chosen.
        untuned: Seconds of a replay of the start.
        tuned: Seconds of a replay of the result, measured at the same time.
        trials: All that was tried, in order.
        seconds: What tuning took.
        finished: Whether everything was tried that there was, rather than the budget spent.
        file: Where the choices were written; ``None`` if nowhere.
    """

    graph: Graph
    tuning: Tuning
    untuned: float
    tuned: float
    trials: tuple[Trial, ...]
    seconds: float
    finished: bool
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Times:
    """What two graphs took, a round an entry."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def before(self) -> float:
        return statistics.median(self.first)

    @property
    def after(self) -> float:
        return statistics.median(self.second)

    def is_faster(self, least_gain: float) -> bool:
        """Whether the second wins so much in the median of the rounds, and something in all of its 95 % interval."""
        ratios = sorted(b / a for a, b in zip(self.first, self.second, strict=True))
        return statistics.median(ratios) < 1 - least_gain and ratios[-1 - _beyond_interval(len(ratios))] < 1


def _beyond_interval(count: int) -> int:
    """How many of the greatest samples lie beyond the interval of the median (order statistics, by the sign test)."""
    beyond, below = -1, 0.0
    while (below := below + math.comb(count, beyond + 1) / 2**count) <= 0.025:
        beyond += 1
    return max(0, beyond)


def _with(tuning: Tuning, move: JointMove) -> Tuning:
    for group, choice in move.choices.items():
        tuning = tuning.with_choice(group, choice)
    return tuning


@dataclass
class Search:
    """A search, and what it needs.

    Attributes:
        measure: Measures.
        same_results: Checks results; it is asked before any time is believed.
        confirm: Asked before anything is kept.
        prepare: Called with what will be tried.
        budget: Seconds that it may take.
        rounds: A B B A rounds for each trial; three times as many before it is kept, four times as many in the end.
        least_gain: Part of the time that a choice must win to be kept.
        hopeless: Part of the time by which a trial must lose in its first round to be given up at once.
        multiprocessors: How many the GPU has.
        sweeps: How often all groups are gone through, at most.
        clock: Tells the time in seconds.
        progress: Called with each trial.
        save: Called with all choices whenever one is kept, so that they survive what ends the search.
    """

    measure: Measure
    same_results: SameResults = lambda graph, reference: ""
    confirm: Confirm = lambda graph: ""
    prepare: Prepare = lambda graphs: None
    budget: float = 60.0
    rounds: int = 3
    least_gain: float = 0.001
    hopeless: float = 0.005
    multiprocessors: int = 132
    sweeps: int = 3
    clock: Callable[[], float] = time.monotonic
    progress: Progress | None = None
    save: Callable[[Tuning], object] = lambda tuning: None
    _start: Graph = field(init=False, repr=False, compare=False)
    _groups: dict[str, GroupFacts] = field(default_factory=dict, init=False, repr=False)
    _trials: list[Trial] = field(default_factory=list, init=False)
    _began: float = field(default=0.0, init=False)
    _longest: float = field(default=0.0, init=False)
    _final: float = field(default=0.0, init=False)

    def run(self, graph: Graph, known: Tuning | None = None) -> TuningResult:
        """Search from a graph.

        Args:
            graph: After its passes; it must be free of races.
            known: Says what is measured on. Its choices are the first thing that is tried, all together; those for
                groups that the graph does not have stay in the result.

        Raises:
            ForerunError: If the graph itself cannot be measured.
        """
        self._began = self.clock()
        self._trials = []
        known = known or Tuning()
        self._start = graph
        self._groups = dict(sorted(group_facts(graph).items(), key=lambda item: -item[1].weight))
        others = {group: choice for group, choice in known.choices.items() if group not in self._groups}
        began = self.clock()
        untuned = tuned = self.measure(graph)
        # The last comparison takes as long as this many measurements; that much of the budget is kept for it.
        self._final = 16 * self.rounds * (self.clock() - began)
        self._longest = 0.0
        tuning, best = self._resumed(known, others)
        tuning, best, finished = self._descended(tuning, best)
        if best is not graph:
            times = self._compared(graph, best, 4 * self.rounds)
            untuned, tuned = times.before, times.after
            is_faster = tuned < untuned and times.is_faster(0.0)
            self._note(Trial("", "all of it", "kept" if is_faster else "undone", untuned, tuned))
            if not is_faster:
                tuning, best, tuned = replace(tuning, choices=others), graph, untuned
        tuning = replace(tuning, seconds={"untuned": untuned, "tuned": tuned})
        gone = self.clock() - self._began
        return TuningResult(best, tuning, untuned, tuned, tuple(self._trials), gone, finished)

    def _resumed(self, known: Tuning, others: Mapping[str, Choice]) -> tuple[Tuning, Graph]:
        """What was chosen before, if it is right and faster, else the start; the choices of other graphs stay."""
        tuning = replace(known, choices=others)
        before = {group: choice for group, choice in known.choices.items() if group not in others}
        if not before or not self._has_time():
            return tuning, self._start
        move = JointMove(before, "what was chosen before", keeps_bits=False)
        found = self._tried(self._start, "", move, tuning)
        if found is None:
            return tuning, self._start
        tuning = _with(tuning, move)
        self.save(tuning)
        return tuning, found

    def _descended(self, tuning: Tuning, best: Graph) -> tuple[Tuning, Graph, bool]:
        # All groups together are one more thing to go through, and the first.
        subjects = ("", *self._groups)
        kept, kept_at = 0, dict.fromkeys(subjects, -1)
        for _ in range(self.sweeps):
            for subject in subjects:
                if kept_at[subject] == kept:
                    continue  # nothing has changed since all this was tried
                seen: set[str] = set()
                ready: set[str] = set()
                while (move := next(self._moves(subject, tuning, seen), None)) is not None:
                    seen.add(move.what)
                    if not self._has_time():
                        return tuning, best, False
                    if move.what not in ready:
                        ready = self._prepared(subject, tuning, seen, move)
                    found = self._tried(best, subject, move, tuning)
                    if found is not None:
                        tuning, best, kept, ready = _with(tuning, move), found, kept + 1, set()
                        self.save(tuning)
                kept_at[subject] = kept
        return tuning, best, all(at == kept for at in kept_at.values())

    def _moves(self, subject: str, tuning: Tuning, seen: set[str]) -> Iterator[JointMove]:
        """What to try for a group, or for all together, that this sweep has not seen."""
        found = joint_moves(self._groups, tuning, self.multiprocessors)
        if subject:
            own = moves(self._groups[subject], tuning.choice(subject), self.multiprocessors)
            found = (JointMove({subject: move.choice}, move.what, move.keeps_bits) for move in own)
        return (move for move in found if move.what not in seen)

    def _prepared(self, subject: str, tuning: Tuning, seen: set[str], first: JointMove) -> set[str]:
        """Tell what comes next, if nothing is kept in between: some kernels for each processor."""
        began = self.clock()
        coming = [first, *itertools.islice(self._moves(subject, tuning, seen), _AHEAD // len(first.choices))]
        graphs = []
        for move in coming:
            with contextlib.suppress(ForerunError):  # told when it is tried
                graphs.append(self._applied(_with(tuning, move)))
        self.prepare(graphs)
        self._longest = max(self._longest, self.clock() - began)
        return {move.what for move in coming}

    def _has_time(self) -> bool:
        gone = self.clock() - self._began
        return gone + self._longest + self._final <= self.budget

    def _tried(self, best: Graph, subject: str, move: JointMove, tuning: Tuning) -> Graph | None:
        """The graph with a move if it is to be kept."""
        began = self.clock()
        group = subject or f"{len(move.choices)} groups"
        before = after = 0.0
        keep = False
        try:
            candidate = self._applied(_with(tuning, move))
            wrong = self._wrong(candidate, best if move.keeps_bits else None)
            if not wrong:
                times = self._compared(best, candidate, self.rounds)
                keep = times.is_faster(self.least_gain)
                if keep:
                    wrong = self.confirm(candidate)
                if keep and not wrong:
                    times = self._compared(best, candidate, 3 * self.rounds)
                    keep = times.is_faster(self.least_gain)
                before, after = times.before, times.after
        except ForerunError as error:
            if error.is_sticky:
                raise
            wrong = error.message
        self._longest = max(self._longest, self.clock() - began)
        if wrong:
            self._note(Trial(group, move.what, "refused", reason=wrong))
            return None
        self._note(Trial(group, move.what, "kept" if keep else "undone", before, after))
        return candidate if keep else None

    def _applied(self, tuning: Tuning) -> Graph:
        if not tuning.choices:
            return self._start
        return apply_tuning(self._start, tuning, PassContext(ApplyTuning("")))

    def _wrong(self, candidate: Graph, reference: Graph | None) -> str:
        verdict = check(candidate)
        if verdict.status == "refuted":
            return f"it has a race: {verdict.findings[0].message}" if verdict.findings else "it has a race"
        return self.same_results(candidate, reference)

    def _compared(self, first: Graph, second: Graph, rounds: int) -> _Times:
        """Both, measured in turns; given up if the second is much slower at once."""
        found: list[tuple[float, float]] = []
        for _ in range(rounds):
            found.append(turn(lambda: self.measure(first), lambda: self.measure(second)))
            if len(found) == 1 and found[0][1] > found[0][0] * (1 + self.hopeless):
                break
        return _Times(tuple(a for a, _ in found), tuple(b for _, b in found))

    def _note(self, trial: Trial) -> None:
        self._trials.append(trial)
        if self.progress is not None:
            self.progress(trial, self.clock() - self._began, self.budget)
