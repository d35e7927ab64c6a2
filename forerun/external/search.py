"""Which choices pay: each function's are tried in turn on the GPU, in the program's graph, and the best are kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from forerun.external.choices import TARGETS, TRIGGERS, Choice, Choices

__all__ = ["Options", "Search", "Trial", "search"]

_GAIN = 0.002
"""What a change must bring: less may be noise."""

_ALL = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
_KEEP = Choice("keep")
_STARTS = [_KEEP, *(choice for choice in _ALL if choice.target != "keep")]

Measure = Callable[[Choices], float]
"""Seconds of a replay with some choices; infinite if there is no fit code for them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that was measured: which function got what, seconds of a replay, and whether it was kept."""

    function: int
    choice: Choice
    seconds: float
    kept: bool


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        choices: The best.
        seconds: Of a replay with them.
        begin: Seconds of a replay with what it began with.
        trials: All that was measured, in order.
    """

    choices: Choices
    seconds: float
    begin: float
    trials: tuple[Trial, ...]


Options: TypeAlias = Mapping[int, Sequence[Choice]]
"""What each function can get, by its number; what it has already is among them."""


def search(
    launches: Counter[int], options: Options, measure: Measure, rounds: int = 2, limit_s: float = 120.0
) -> Search:
    """Look for the best choices: the better of a few for all functions, then function by function.

    Args:
        launches: How many nodes launch each function that can get other code.
        options: What each of them can get.
        measure: Takes the time.
        rounds: How often every function's choices are tried; it ends earlier when nothing brings more.
        limit_s: Seconds after which it ends with the best that was found; the few for all functions are always tried.
    """
    end = time.monotonic() + limit_s
    starts = [{f: choice if choice in options[f] else _KEEP for f in launches} for choice in _STARTS]
    starts = [start for n, start in enumerate(starts) if start not in starts[:n]]
    times = [measure(start) for start in starts]
    trials = [Trial(-1, _most_common(s), t, False) for s, t in zip(starts, times, strict=True)]
    begin = best = min(times)
    choices = starts[times.index(best)]
    for _ in range(rounds):
        improved = False
        for function, _count in launches.most_common():
            # The GPU may run faster or slower than a while ago.
            best = measure(choices)
            for choice in options[function]:
                if choice == choices[function] or time.monotonic() > end:
                    continue
                seconds = measure({**choices, function: choice})
                kept = seconds < best * (1 - _GAIN)
                if kept:
                    # Once more, both: a single good measurement may be luck.
                    again, base = measure({**choices, function: choice}), measure(choices)
                    seconds = max(seconds, again)
                    kept = seconds < base * (1 - _GAIN / 2)
                trials.append(Trial(function, choice, seconds, kept))
                if kept:
                    choices = {**choices, function: choice}
                    best = seconds
                    improved = True
        if not improved:
            break
    return Search(choices, best, begin, tuple(trials))


def _most_common(choices: Choices) -> Choice:
    return Counter(choices.values()).most_common(1)[0][0] if choices else _KEEP
