"""The checker against the explorer: all three-kernel one-buffer graphs, and many random larger ones.

Each graph is judged four times: by the checker and by the explorer, strictly and with H6. With the same rules both must
say the same: a graph that the checker proves and the explorer does not is *unsound*, the other way round is a
*disagreement*. What the strict checker refuses although the explorer finds nothing wrong under H6 is *imprecise*: the
price of not relying on the order of starts.

Run from the repository's root: ``python -m benchmarks.exhaustive``.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice, product
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result

from forerun.ir.graph import Graph
from forerun.ir.semantics import check
from forerun.testing.explorer import explore
from tests.random_graphs import plain
from tests.three_kernels import BODIES, EDGES, graph_of

NODES = (3, 5)
MOST_STATES = 600
"""Random graphs with more states than about this are left out: they take most of the time."""

__all__ = ["compare", "judge", "random_graphs"]


def judge(graph: Graph) -> Counter[str]:
    """What checker and explorer say of one graph, as counts."""
    strict, granted = check(graph).proved, check(graph, assumptions={"H6"}).proved
    explored = explore(graph).proved
    # H6 says something of programmatic edges only.
    scheduled = explore(graph, {"H6"}).proved if graph.count_dependencies()["programmatic"] else explored
    return Counter(
        cases=1,
        proved=strict,
        unsound=(strict and not explored) + (granted and not scheduled),
        disagreements=(explored and not strict) + (scheduled and not granted),
        imprecise=scheduled and not strict,
    )


def random_graphs(seed: int) -> Iterator[Graph]:
    """Without end: graphs of three to five nodes with roles, barriers, fills and every kind of edge."""
    chooser = random.Random(seed)
    while True:
        yield plain(chooser, *NODES)


def _is_small(graph: Graph) -> bool:
    steps = [2 + sum(len(role.steps) for role in kernel.roles or ()) for kernel in graph.kernels.values()]
    states = 3 ** (len(graph) - len(steps))
    for kernel, count in zip(graph.kernels.values(), steps, strict=True):
        states *= count if len(kernel.roles or ()) == 1 else (count // 2 + 1) ** 2
    return states <= MOST_STATES


def compare(task: tuple[str, int, int]) -> Counter[str]:
    """Judge one slice: every ``step``-th of the three-kernel graphs, or ``step`` random ones of a seed."""
    kind, first, step = task
    total: Counter[str] = Counter()
    if kind == "three":
        shapes = product(product(range(len(BODIES)), repeat=3), EDGES)
        graphs: Iterator[Graph] = (graph_of(*shape) for shape in islice(shapes, first, None, step))
    else:
        graphs = islice(filter(_is_small, random_graphs(first)), step)
    for graph in graphs:
        total.update(judge(graph))
    return total


def main() -> int:
    """Run it all, and write benchmarks/results/explorer.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=100_000, help="how many random graphs")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only each N-th three-kernel graph (to try it out)")
    options = parser.parse_args()
    slices = 16 * options.every
    tasks = [("three", i * options.every, slices) for i in range(16)]
    tasks += [("random", seed, options.random // 50) for seed in range(50)]
    total: Counter[str] = Counter()
    with get_context("spawn").Pool(options.jobs) as pool:
        for done, found in enumerate(pool.imap(compare, tasks), 1):
            total.update(found)
            print(f"{done}/{len(tasks)} {dict(total)}", flush=True)
    if options.every == 1:
        names = ("cases", "proved", "unsound", "disagreements", "imprecise")
        metrics = {f"explorer.{name}": _count(total[name]) for name in names}
        write_result("explorer", metrics)
    return int(bool(total["unsound"] or total["disagreements"]))


def _count(value: int) -> Metric:
    return Metric(value, "graphs", value, value)


if __name__ == "__main__":
    sys.exit(main())
