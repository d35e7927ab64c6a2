"""What the benchmark of the persistent kernel launches can be built, and its edits of the source still apply."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.persistent_checks import SHAPES
from benchmarks.persistent_programs import VARIANTS, graph_of, plan, random_requests, skewed
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import Source


@pytest.mark.parametrize("label", VARIANTS)
def test_variants_are_kernels_of_their_own(label: str) -> None:
    variant = VARIANTS[label]
    found, _ = units(graph_of(plan((28, 4, 128, 16), 4, 4, 64, 64, ctas=variant.ctas), "sa", variant))
    sources = [unit.source for unit in found if isinstance(unit.source, Source)]
    assert sum(variant.edit[1] in text for source in sources for _, text in source.headers) >= 1
    assert found[1].launch.grid == (variant.ctas, 1, 1)


def test_all_shapes_make_graphs() -> None:
    for shapes, policy, cuts in SHAPES:
        assert len(graph_of(plan(shapes, 4, 40, 64, 64, policy, cuts), "sas")) == 3


def test_lengths_are_what_the_docstring_says() -> None:
    requests = random_requests(np.random.default_rng(0), 400, 120_000, 4096, True)
    assert len(requests) > 300
    assert all(1 <= q <= kv <= 32768 for q, kv in requests)
    assert sum(-(-kv // 16) for _, kv in requests) <= 120_000
    assert sum(kv for _, kv in skewed()) == 471191
