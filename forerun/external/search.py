"""Which choices pay: each function's are tried in turn on the GPU, in the program's graph, and the best are kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from forerun.external.choices import ORDERS, TARGETS, TRIGGERS, Choice, Choices, Order

__all__ = ["Options", "Search", "Trial", "search"]

_GAIN = 0.002
"""What a change must bring: less may be noise."""

_ALL = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
_KEEP = Choice("keep")
_STARTS = [_KEEP, *(choice for choice in _ALL if choice.target != "keep")]

Measure = Callable[[Order, Choices], float]
"""Seconds of a replay with an order and some choices; infinite if there is no fit code for them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that was measured: which function got what, seconds of a replay, and whether it was kept.

    The function is -1 where all of them got it.
    """

    order: Order
    function: int
    choice: Choice
    seconds: float
    kept: bool


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        order: The better order.
        choices: The best choices.
        seconds: Of a replay with them.
        begin: Seconds of a replay with the best that all functions have in common.
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
    rounds: int = 2,
    limit_s: float = 120.0,
) -> Search:
    """Look for the best choices: the better of a few for all functions, in each order, then function by function.

    Args:
        launches: How many nodes launch each function that can get other code.
        options: What each of them can get.
        measure: Takes the time.
        orders: Those that differ.
        rounds: How often every function's choices are tried; it ends earlier when nothing brings more.
        limit_s: Seconds after which it ends with the best that was found; the few for all functions are always tried.
    """
    end = time.monotonic() + limit_s
    trials = [
        Trial(order, -1, choice, measure(order, _everywhere(choice, launches, options)), False)
        for order in orders
        for choice in _STARTS
    ]
    first = min(trials, key=lambda trial: trial.seconds)
    order, best = first.order, first.seconds
    choices = _everywhere(first.choice, launches, options)
    for _ in range(rounds):
        improved = False
        for function, _count in launches.most_common():
            # The GPU may run faster or slower than a while ago.
            best = measure(order, choices)
            for choice in options[function]:
                if choice == choices[function] or time.monotonic() > end:
                    continue
                changed = {**choices, function: choice}
                seconds = measure(order, changed)
                kept = seconds < best * (1 - _GAIN)
                if kept:
                    # Once more, both: a single good measurement may be luck.
                    again, base = measure(order, changed), measure(order, choices)
                    seconds = max(seconds, again)
                    kept = seconds < base * (1 - _GAIN / 2)
                trials.append(Trial(order, function, choice, seconds, kept))
                if kept:
                    choices, best = changed, seconds
                    improved = True
        if not improved:
            break
    return Search(order, choices, best, first.seconds, tuple(trials))


def _everywhere(choice: Choice, launches: Counter[int], options: Options) -> Choices:
    """One choice for all functions that can get it; the others keep what they have."""
    return {function: choice if choice in options[function] else _KEEP for function in launches}
