"""Coordinate descent over the choices of a graph, judged by measurements that others make.

One group at a time, one choice at a time: it is kept if the whole graph is faster with it, and undone if not. The two
are measured in the order A B B A, so that drift falls out. In the end the result is measured against the start once
more, and given up if it is not faster: so the result is never slower than the start, as far as clocks can tell.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from forerun.ir.diagnostics import ForerunError
from forerun.ir.graph import Graph
from forerun.ir.semantics import check
from forerun.passes.apply_tuning import ApplyTuning, apply_tuning
from forerun.passes.base import PassContext
from forerun.passes.tuning import Choice, Tuning
from forerun.tuner.moves import GroupFacts, Move, group_facts, moves

__all__ = ["Measure", "Progress", "SameResults", "Search", "Trial", "TuningResult"]

Measure = Callable[[Graph], float]
"""Seconds of one replay of a graph. What it cannot run it refuses with a :class:`ForerunError`."""
SameResults = Callable[[Graph, bool], str]
"""Whether a graph computes what the first one does, bit by bit if the second argument says so: why not, or nothing."""

Verdict = Literal["kept", "undone", "refused"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that was tried.

    Attributes:
        group: What it was about; empty for the last comparison of all.
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


Progress = Callable[[Trial, float, float], object]
"""Told of each trial, of the seconds gone, and of the budget."""


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
    """

    graph: Graph
    tuning: Tuning
    untuned: float
    tuned: float
    trials: tuple[Trial, ...]
    seconds: float
    finished: bool


@dataclass
class Search:
    """A search, and what it needs.

    Attributes:
        measure: Measures.
        same_results: Checks results; it is asked before any time is believed.
        budget: Seconds that it may take.
        rounds: A B B A rounds for each trial; four times as many in the end.
        least_gain: Part of the time that a choice must win to be kept.
        hopeless: Part of the time by which a trial must lose in its first round to be given up at once.
        multiprocessors: How many the GPU has.
        sweeps: How often all groups are gone through, at most.
        clock: Tells the time in seconds.
        progress: Told of each trial.
    """

    measure: Measure
    same_results: SameResults = lambda graph, exact: ""
    budget: float = 60.0
    rounds: int = 3
    least_gain: float = 0.001
    hopeless: float = 0.02
    multiprocessors: int = 132
    sweeps: int = 3
    clock: Callable[[], float] = time.monotonic
    progress: Progress | None = None
    _trials: list[Trial] = field(default_factory=list, init=False)
    _began: float = field(default=0.0, init=False)
    _longest: float = field(default=0.0, init=False)
    _final: float = field(default=0.0, init=False)

    def run(self, graph: Graph, blank: Tuning | None = None) -> TuningResult:
        """Search from a graph.

        Args:
            graph: After its passes; it must be free of races.
            blank: Says what is measured on; its choices are where the search starts.

        Raises:
            ForerunError: If the graph itself cannot be measured.
        """
        self._began = self.clock()
        self._trials = []
        tuning = blank or Tuning()
        start = graph
        best = self._applied(start, tuning)
        began = self.clock()
        first = self.measure(best)
        # The last comparison takes as long as so many measurements; that much of the budget is kept for it.
        self._final = 16 * self.rounds * (self.clock() - began)
        self._longest = 0.0
        tuning, best, finished = self._descended(start, tuning, best)
        untuned = tuned = first
        if best is not start:
            untuned, tuned = self._compared(start, best, 4 * self.rounds)
            if not tuned < untuned:
                self._note(Trial("", "all of it", "undone", untuned, tuned))
                tuning, best, tuned = replace(tuning, choices={}), start, untuned
            else:
                self._note(Trial("", "all of it", "kept", untuned, tuned))
        tuning = replace(tuning, seconds={"untuned": untuned, "tuned": tuned})
        gone = self.clock() - self._began
        return TuningResult(best, tuning, untuned, tuned, tuple(self._trials), gone, finished)

    def _descended(self, start: Graph, tuning: Tuning, best: Graph) -> tuple[Tuning, Graph, bool]:
        groups = group_facts(start)
        # Groups with many nodes first: what is won there is won often.
        order = sorted(groups, key=lambda group: -groups[group].nodes)
        kept, kept_at = 0, dict.fromkeys(order, -1)
        for _ in range(self.sweeps):
            for group in order:
                if kept_at[group] == kept:
                    continue  # nothing has changed since all this was tried
                seen: set[str] = set()
                while (move := self._next(groups[group], tuning.choice(group), seen)) is not None:
                    if not self._has_time():
                        return tuning, best, False
                    found = self._tried(start, best, group, move, tuning)
                    if found is not None:
                        tuning, best, kept = tuning.with_choice(group, move.choice), found, kept + 1
                kept_at[group] = kept
        return tuning, best, all(at == kept for at in kept_at.values())

    def _next(self, facts: GroupFacts, current: Choice, seen: set[str]) -> Move | None:
        """A move that this sweep has not seen."""
        for move in moves(facts, current, self.multiprocessors):
            if move.what not in seen:
                seen.add(move.what)
                return move
        return None

    def _has_time(self) -> bool:
        gone = self.clock() - self._began
        return gone + self._longest + self._final <= self.budget

    def _tried(self, start: Graph, best: Graph, group: str, move: Move, tuning: Tuning) -> Graph | None:
        """The graph with a move if it is to be kept."""
        began = self.clock()
        try:
            candidate = self._applied(start, tuning.with_choice(group, move.choice))
            wrong = self._wrong(candidate, move)
            before, after = (0.0, 0.0) if wrong else self._compared(best, candidate, self.rounds)
        except ForerunError as error:
            if getattr(error, "is_sticky", False):
                raise
            wrong, before, after = error.message, 0.0, 0.0
        self._longest = max(self._longest, self.clock() - began)
        if wrong:
            self._note(Trial(group, move.what, "refused", reason=wrong))
            return None
        keep = after < before * (1 - self.least_gain)
        self._note(Trial(group, move.what, "kept" if keep else "undone", before, after))
        return candidate if keep else None

    def _applied(self, start: Graph, tuning: Tuning) -> Graph:
        if not tuning.choices:
            return start
        return apply_tuning(start, tuning, PassContext(ApplyTuning("")))

    def _wrong(self, candidate: Graph, move: Move) -> str:
        verdict = check(candidate)
        if verdict.status == "refuted":
            return f"it has a race: {verdict.findings[0].message}" if verdict.findings else "it has a race"
        return self.same_results(candidate, move.keeps_bits)

    def _compared(self, first: Graph, second: Graph, rounds: int) -> tuple[float, float]:
        """Medians of both, measured in turns."""
        a: list[float] = []
        b: list[float] = []
        for number in range(rounds):
            a.append(self.measure(first))
            b += [self.measure(second), self.measure(second)]
            a.append(self.measure(first))
            if number == 0 and min(b) > max(a) * (1 + self.hopeless):
                break
        return statistics.median(a), statistics.median(b)

    def _note(self, trial: Trial) -> None:
        self._trials.append(trial)
        if self.progress is not None:
            self.progress(trial, self.clock() - self._began, self.budget)
