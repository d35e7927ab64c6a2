"""Kernels, pipelines and schedules shrink to the simplest ones."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import Phase, find, settings

from forerun.testing import kernels, pipelines, schedules

SEARCH = settings(max_examples=500, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])


@pytest.mark.parametrize("seed", range(3))
def test_kernels_shrink_to_one_phase(seed: int) -> None:
    kernel = find(kernels("k"), lambda k: bool(k.phases[0].writes), random=Random(seed), settings=SEARCH)
    assert (kernel.name, len(kernel.phases), len(kernel.roles or ())) == ("k", 1, 1)


def test_pipelines_and_schedules_shrink_to_the_first() -> None:
    subject = pipelines(["reduce-edges", "insert-pdl"], min_size=1)
    assert str(find(subject, lambda pipeline: True, random=Random(0), settings=SEARCH)) == "reduce-edges"
    target = find(schedules(), lambda target: target.seed > 2, random=Random(0), settings=SEARCH)
    assert str(target) == "reference{schedule=adversarial,seed=3}"
