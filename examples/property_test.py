"""A property test of a pass: random graphs, and oracles that the pass does not share.

Run it as a test (``pytest examples/property_test.py``) or as a script. ``graphs`` draws valid graphs without races;
``aimed_at`` prefers those that the pass changes.
"""

from __future__ import annotations

from hypothesis import given, settings
from own_pass import LateSmallKernels

from forerun.ir.graph import Graph
from forerun.passes import PassContext
from forerun.testing import assert_idempotent, assert_refines, assert_same_outputs, graphs, search

SUBJECT = LateSmallKernels()


@settings(max_examples=20, deadline=None)
@given(graphs(after="infer-dependencies,insert-pdl", aimed_at=SUBJECT))
def test_small_kernels_start_late(graph: Graph) -> None:
    after = SUBJECT.apply(graph, PassContext(SUBJECT))
    assert_refines(graph, after)  # a certificate: every conflict keeps its direction
    assert_same_outputs(graph, after, seeds=range(4))  # the same bits under adversarial schedules
    assert_idempotent(SUBJECT, graph)


def main() -> None:
    test_small_kernels_start_late()
    print("the test passed")
    found = search(LateSmallKernels, graphs(after="infer-dependencies,insert-pdl"), examples=30, seed=0)
    print(f"{found.examples} more graphs, {found.fired} of them changed, no counterexample")
    assert found.counterexample is None
    assert found.fired > 0


if __name__ == "__main__":
    main()
