"""A changed launch is proved only if the kernel says that it accepts both, and never by a guess about its code."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.refinement.certificate import certify
from forerun.ir.text import parse_graph
from forerun.ir.verify import require_valid

GRAPH = """
forerun 1
graph g
buffer %x : f32[4] input
buffer %y : f32[4] output
kernel @copy(x: f32[N], y: f32[N]){launches}{code} {{
  role r {{
    phase p reads x writes y
  }}
}}
node #n = @copy(x=%x, y=%y) {launch}
"""
CUDA, PTX = ' cuda("forerun.kernels.cuda:add.cu", "add")', ' ptx("lib.ptx", "copy")'
OLD = "grid(4) block(64)"


def verdict_of(launches: str, new: str, *, old: str = OLD, code: str = CUDA, after: str | None = None) -> str:
    accepted = (launches, launches if after is None else after)
    texts = [GRAPH.format(launches=a, code=code, launch=launch) for a, launch in zip(accepted, (old, new), strict=True)]
    graphs = [parse_graph(text) for text in texts]
    for graph in graphs:
        require_valid(graph)
    return certify(*graphs).status


CHANGED = ["grid(8) block(64)", "grid(4) block(96)", "grid(2, 2) block(64)", "grid(4) block(64) shared(1024)"]


@pytest.mark.parametrize(("new", "code"), list(product(CHANGED, [CUDA, PTX, ""])))
def test_a_kernel_that_says_nothing_keeps_its_launch(new: str, code: str) -> None:
    assert verdict_of("", new, code=code) == "unsupported"
    assert verdict_of("", OLD, code=code) == "proved"


@pytest.mark.parametrize(("new", "code"), list(product([*CHANGED, "grid(4) block(64) cluster(2)"], [CUDA, PTX, ""])))
def test_a_kernel_that_accepts_all_launches_may_be_launched_so(new: str, code: str) -> None:
    assert verdict_of(" launches any", new, code=code) == "proved"


def test_only_what_is_accepted_is_proved() -> None:
    assert verdict_of(" launches block(64..128 step 64)", "grid(9, 3) block(128) shared(64) cluster(3)") == "proved"
    assert verdict_of(" launches grid(1..8) cluster(1..2)", "grid(8) block(64) cluster(2)") == "proved"
    assert verdict_of(" launches any", OLD + " cooperative") == "unsupported"


def test_the_declaration_of_before_counts() -> None:
    assert verdict_of("", "grid(8) block(64)", after=" launches any") == "unsupported"
    assert verdict_of(" launches grid(4)", "grid(8) block(64)", after=" launches any") == "unsupported"
    assert verdict_of(" launches any", OLD, after=" launches grid(4)") == "unsupported"


_sizes = st.integers(1, 6)
_spans = st.none() | st.builds(lambda start, more, step: Span(start, start + more, step), _sizes, _sizes, _sizes)


@given(
    accepted=st.builds(Launches, _spans, _spans, _spans, _spans),
    grid=st.tuples(_sizes, _sizes, _sizes),
    block=st.tuples(_sizes, _sizes, _sizes),
    shared=st.integers(0, 9),
    cluster=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 2), st.just(1)),
)
def test_what_is_accepted_is_counted_one_by_one(
    accepted: Launches,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared: int,
    cluster: tuple[int, int, int] | None,
) -> None:
    def allowed(span: Span | None) -> list[int] | None:
        return None if span is None else list(range(span.start, span.stop + 1, span.step))

    counted = [
        (accepted.grid, grid[0] * grid[1] * grid[2]),
        (accepted.block, block[0] * block[1] * block[2]),
        (accepted.shared, shared),
        (accepted.cluster, 1 if cluster is None else cluster[0] * cluster[1]),
    ]
    right = all(numbers is None or given in numbers for numbers, given in ((allowed(s), n) for s, n in counted))
    right = right and (accepted.cluster is None or cluster is None or cluster[1] == 1)
    event(f"accepted: {right}")
    assert (accepted.refusal(Launch(grid, block, shared, cluster)) == "") == right
