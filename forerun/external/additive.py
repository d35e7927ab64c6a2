"""Which choices are the best if each adds something of its own to the time: by least squares over measured graphs.

In a graph in which every function gets a choice at random, one measurement says something of all of them: as many
measurements as one function after the other would take know each choice several times as exactly. What neighbours do
to each other is noise here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from forerun.external.choices import TARGETS, TRIGGERS, Choice, Choices

__all__ = ["predicted_best", "varied"]

_RIDGE = 2.0
"""How much larger than the effect of a choice noise is taken to be, squared."""

_LEVELS = (*TARGETS, *(f"trigger {trigger}" for trigger in TRIGGERS))


def varied(choices: Choices, options: Mapping[int, Sequence[Choice]], random: Random) -> Choices:
    """The choices, with that of about every second function drawn from its options."""
    drawn = {number: random.choice(found) for number, found in options.items() if random.random() < 0.5}
    return {**choices, **drawn}


def predicted_best(
    samples: Sequence[tuple[Choices, float]], options: Mapping[int, Sequence[Choice]]
) -> Mapping[int, Choice]:
    """For each function, the option that adds the least to the time of the samples; infinite times do not count.

    Target and trigger of a function count each for itself.
    """
    import numpy as np

    known = [(choices, seconds) for choices, seconds in samples if math.isfinite(seconds)]
    if not known:
        return {}
    place = {number: index * len(_LEVELS) for index, number in enumerate(options)}

    def levels(number: int, choice: Choice) -> list[int]:
        return [place[number] + _LEVELS.index(one) for one in (choice.target, f"trigger {choice.trigger}")]

    matrix = np.zeros((len(known), len(place) * len(_LEVELS)))
    for row, (choices, _) in enumerate(known):
        for number in place:
            matrix[row, levels(number, choices[number])] = 1
    times = np.array([seconds for _, seconds in known])
    effects = times - times.mean()
    center = matrix.mean(axis=0)
    normal = (matrix - center).T @ (matrix - center) + _RIDGE * np.eye(len(center))
    added = np.linalg.solve(normal, (matrix - center).T @ effects)

    def cost(number: int, choice: Choice) -> float:
        return float(added[levels(number, choice)].sum())

    return {number: min(found, key=partial(cost, number)) for number, found in options.items() if found}
