"""Benches without a GPU: the reference target plays one that keeps the rules of its schedules and nothing more."""

from __future__ import annotations

from dataclasses import replace

from forerun.runtime.litmus import TESTS, Counts, LitmusTest, Machine
from forerun.runtime.reference import ReferenceTarget

MACHINE = Machine("NVIDIA Test GPU", "580.1", "9.0")
SERIAL = ReferenceTarget()


class ReferenceRunner:
    """Runs tests on the reference target."""

    def __init__(self, target):
        self.target = target

    def prepare(self, graphs, progress=None):
        if progress is not None:
            progress(len(graphs), len(graphs))

    def open(self, graph):
        return Reference(self.target.load(graph, {}))


class Reference:
    """A program of the reference target: when a replay returns, everything is over."""

    def __init__(self, program):
        self.run, self.read, self.close = program.run, program.read, program.close

    def settle(self):
        pass


def adversarial(**options):
    return ReferenceRunner(ReferenceTarget("adversarial", seed=1, **options))


def small(test: LitmusTest) -> LitmusTest:
    """The same test with few CTAs, and fewer kernels side by side."""
    extra = [node for node in test.nodes if node[0] in "BC" and node[1:] and int(node[1:]) > 1]
    nodes = {node: body for node, body in test.nodes.items() if node not in extra}
    kept = tuple(d for d in test.dependencies if d.source in nodes and d.target in nodes)
    return replace(test, nodes=nodes, dependencies=kept, ctas=min(test.ctas, 2), threads=min(test.threads, 32))


def as_expected(runs=1000, **changed: Counts):
    """Counts by test as a GPU gives them that keeps all rules: what may be seen is seen in every run."""
    from forerun.runtime.litmus import needed_assumptions

    counts = {n: Counts(runs, runs if needed_assumptions(t) is None else 0) for n, t in TESTS.items()}
    return {**counts, **changed}
