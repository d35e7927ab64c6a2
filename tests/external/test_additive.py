"""What choices add to the time is found from samples in which all functions vary at once, noise included."""

from __future__ import annotations

import math
from random import Random

from forerun.external.additive import predicted_best, varied
from forerun.external.choices import TARGETS, TRIGGERS, Choice, Choices

EVERY = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
OPTIONS = dict.fromkeys(range(8), EVERY)
START = dict.fromkeys(OPTIONS, Choice("keep"))


def seconds(choices: Choices, noise: Random) -> float:
    """Each odd function is faster where it waits, each even one where it triggers at the start; by 0.5 % each."""
    gains = sum(
        choice.target == "wait" if number % 2 else choice.trigger == "start" for number, choice in choices.items()
    )
    return 1e-3 * (1 - 0.005 * gains) * (1 + noise.gauss(0, 0.005))


def test_small_effects_are_found_in_noise_as_large() -> None:
    random = Random(0)
    drawn = [varied(START, OPTIONS, random) for _ in range(200)]
    found = predicted_best([(one, seconds(one, random)) for one in drawn], OPTIONS)
    right = [choice.target == "wait" if number % 2 else choice.trigger == "start" for number, choice in found.items()]
    assert (len(right), sum(right)) == (8, 8)


def test_about_every_second_function_varies() -> None:
    random = Random(1)
    drawn = [varied(START, OPTIONS, random) for _ in range(100)]
    changed = sum(one[number] != START[number] for one in drawn for number in OPTIONS)
    assert 300 < changed < 440


def test_what_may_not_run_does_not_count() -> None:
    samples = [({0: Choice("wait")}, 2.0), ({0: Choice("keep")}, 1.0), ({0: Choice("ahead")}, math.inf)]
    assert predicted_best(samples * 9, {0: [Choice("wait"), Choice("keep")]}) == {0: Choice("keep")}
    assert predicted_best([({0: Choice("wait")}, math.inf)], {0: EVERY}) == {}
    assert predicted_best([(START, 1.0)], {0: []}) == {}
