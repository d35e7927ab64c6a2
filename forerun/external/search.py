"""Which choices pay: each function's are tried in turn on the GPU, in the program's graph, and the best are kept."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from forerun.external.additive import predicted_best, varied
from forerun.external.choices import ORDERS, TARGETS, TRIGGERS, Choice, Choices, Order

__all__ = ["Candidate", "Measure", "Options", "Search", "Trial", "search"]

_GAIN = 0.002
"""What a change must bring: less may be noise."""

_SAMPLED, _ROUNDS, _BATCH = 0.6, 2, 8
"""The share of the time for samples, their rounds, and the graphs that are measured at once for each function."""

_MANY = -2
_AGAIN, _FINALS = 3, 4
"""How many graphs are made of the same choices where two are compared again, and where the last ones are."""

_ALL = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
_KEEP = Choice("keep")
_STARTS = [_KEEP, *(choice for choice in _ALL if choice.target != "keep")]

Candidate: TypeAlias = tuple[Order, Choices]


class Measure(Protocol):
    """Takes the time of replays."""

    def __call__(self, candidates: Sequence[Candidate], turns: int = ...) -> Sequence[float]:
        """Seconds for each graph; infinite for those that may not run, or have no fit code."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that was measured: which function got what, seconds of a replay, and whether it was kept.

    The function is -1 where all of them got it, and -2 in a sample, where each got something of its own.
    """

    order: Order
    choice: Choice
    seconds: float
    kept: bool
    function: int


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        order: The better order.
        choices: The best choices.
        seconds: Of a replay with them.
        begin: Seconds of a replay with the best that all functions have in common, measured beside it.
        trials: All that was measured, in order.
    """

    order: Order
    choices: Choices
    seconds: float
    begin: float
    trials: tuple[Trial, ...]


Options: TypeAlias = Mapping[int, Sequence[Choice]]
"""What each function can get, by its number; what it has already is among them."""


def search(
    launches: Counter[int],
    options: Options,
    measure: Measure,
    orders: Sequence[Order] = ORDERS,
    rounds: int = 1,
    limit_s: float = 120.0,
    untouched: Choices | None = None,
) -> Search:
    """Look for the best choices: the better of a few for all functions; then by samples; then function by function.

    Samples are graphs around the best one so far in which all functions vary at once; see
    :mod:`forerun.external.additive`.
    What is compared is measured by turns, since a GPU may run faster or slower than a while ago. A change is kept if it
    brings something in graphs that are made again, too: a single one may be lucky. In the end what was found competes
    with what it began from, and with the graph as it was captured.

    Args:
        launches: How many nodes launch each function that can get other code.
        options: What each of them can get.
        measure: Takes the time.
        orders: Those that differ.
        rounds: How often every function's choices are tried alone; it ends earlier when nothing brings more.
        limit_s: Seconds after which it ends with the best that was found; the few for all functions are always tried.
        untouched: What makes the graph as it was captured, in that order; by default, all functions keep their code.
    """
    options, end = {number: options[number] for number in launches}, time.monotonic() + limit_s
    starts = [(order, choice) for order in orders for choice in _STARTS]
    everywhere: list[Candidate] = [(order, _everywhere(choice, launches, options)) for order, choice in starts]
    seconds = measure(everywhere)
    trials = [Trial(*start, time_of, False, -1) for start, time_of in zip(starts, seconds, strict=True)]
    first = everywhere[min(range(len(starts)), key=seconds.__getitem__)]
    found = _of_samples(first, options, measure, trials, time.monotonic() + limit_s * _SAMPLED)
    for _ in range(rounds):
        before = found
        for function, _count in launches.most_common():
            if time.monotonic() < end:
                found = _with_best(function, options[function], found, measure, trials)
        if found == before or time.monotonic() > end:
            break
    kept = dict.fromkeys(launches, _KEEP) if untouched is None else untouched
    finals: list[Candidate] = [found]
    for one in (first, ("captured", kept), *_best_of_each(orders, everywhere, seconds)):
        finals += [one] if one not in finals else []
    means = _means(measure, finals, _FINALS)
    best = 0 if means[0] <= min(means) * (1 + _GAIN) else means.index(min(means))
    return Search(*finals[best], means[best], means[finals.index(first)], tuple(trials))


def _best_of_each(
    orders: Sequence[Order], candidates: Sequence[Candidate], seconds: Sequence[float]
) -> Iterator[Candidate]:
    for order in orders:
        own = [number for number, candidate in enumerate(candidates) if candidate[0] == order]
        yield candidates[min(own, key=seconds.__getitem__)]


def _of_samples(start: Candidate, options: Options, measure: Measure, trials: list[Trial], end: float) -> Candidate:
    """The best choices by what samples around the start say of each, twice, if a graph of them is better."""
    order, choices = start
    random = Random(0)
    samples: list[tuple[Choices, float]] = []
    for _ in range(_ROUNDS):
        for _ in range(len(options)):
            if time.monotonic() < end:
                drawn = [varied(choices, options, random) for _ in range(_BATCH)]
                times = measure([(order, one) for one in drawn], 1)
                samples += zip(drawn, times, strict=True)
                trials += [Trial(order, _KEEP, seconds, False, _MANY) for seconds in times]
        changed = {**choices, **predicted_best(samples, options)}
        if changed == choices:
            break
        again, other = _means(measure, [(order, choices), (order, changed)], _AGAIN)
        choices = changed if other < again * (1 - _GAIN) else choices
    return order, choices


def _with_best(
    function: int, options: Sequence[Choice], found: Candidate, measure: Measure, trials: list[Trial]
) -> Candidate:
    """What was found so far, with the best choice for one function; all that are tried are noted."""
    order, choices = found
    others = [choice for choice in options if choice != choices[function]]
    changed: list[Candidate] = [(order, {**choices, function: choice}) for choice in others]
    base, *seconds = measure([found, *changed])
    best = min(range(len(others)), key=seconds.__getitem__, default=-1)
    is_better = best >= 0 and seconds[best] < base * (1 - _GAIN)
    if is_better:
        again, other = _means(measure, [found, changed[best]], _AGAIN)
        is_better = other < again * (1 - _GAIN)
    for number, choice in enumerate(others):
        trials.append(Trial(order, choice, seconds[number], is_better and number == best, function))
    return changed[best] if is_better else found


def _means(measure: Measure, candidates: Sequence[Candidate], count: int) -> list[float]:
    """The mean seconds of several graphs of each candidate, measured by turns."""
    found = measure([*candidates] * count)
    return [statistics.fmean(found[number :: len(candidates)]) for number in range(len(candidates))]


def _everywhere(choice: Choice, launches: Counter[int], options: Options) -> Choices:
    """One choice for all functions that can get it, or the like without a trigger; the others keep what they have."""
    found: dict[int, Choice] = {}
    for function in launches:
        tried = (choice, Choice(choice.target), _KEEP)
        found[function] = next((one for one in tried if one in options[function]), _KEEP)
    return found
