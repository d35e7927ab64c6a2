"""An additive model of the time of a graph, fitted by ridge regression to graphs with random choices.

Each choice of a function is assumed to add a constant to the time. In a graph in which every function has a random
choice, one measurement informs all of them, so the same number of measurements estimates each choice more precisely
than trying functions one after another. Interactions between functions are treated as noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from forerun.external.choices import TARGETS, TRIGGERS, Choice, Choices

__all__ = ["predicted_best", "varied"]

_RIDGE = 2.0
"""The ridge penalty: the assumed ratio of the variance of noise to that of the effect of a choice."""

_LEVELS = (*TARGETS, *(f"trigger {trigger}" for trigger in TRIGGERS))


def varied(choices: Choices, options: Mapping[int, Sequence[Choice]], random: Random) -> Choices:
    """Vary the choices: about half of the functions get a random one of their options."""
    drawn = {number: random.choice(found) for number, found in options.items() if found and random.random() < 0.5}
    return {**choices, **drawn}


def predicted_best(
    samples: Sequence[tuple[Choices, float]], options: Mapping[int, Sequence[Choice]]
) -> Mapping[int, Choice]:
    """For each function, the option with the least estimated cost; samples with infinite times are ignored.

    A function's target and trigger have separate effects.
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
