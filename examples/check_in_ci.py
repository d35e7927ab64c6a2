"""A check in CI: the graph that a program builds today must mean what the approved one means.

The approved graph is a text file in the repository. The check proves that the graph of today has no race, and that it
may take the place of the approved one. Exit status 0: proved; 1: not proved, and the reason is printed.

    python check_in_ci.py --approve   # writes approved.fir; commit it
    python check_in_ci.py             # in CI
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import forerun
from forerun.ir.explain import explain
from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import DependencyKind
from forerun.kernels import add, gemv
from forerun.kernels.shapes import elementwise_launch


def build(*, forget: bool) -> Graph:
    """What the program launches. With ``forget``, the sum no longer waits for the projection: a bug to be caught."""
    builder = forerun.GraphBuilder("step")
    x, y = builder.input("x", "f32", 64), builder.output("y", "f32", 64)
    weight, partial = builder.weight("w", "f32", (64, 64)), builder.temp("partial", "f32", 64)
    builder.launch(gemv, node="project", launch=gemv.launch_for(64), w=weight, x=x, y=partial)
    builder.launch(add, node="sum", launch=elementwise_launch(64), after=[], a=x, b=partial, y=y)
    if not forget:
        builder.depend("project", "sum", DependencyKind.FULL)
    return builder.build()


def main() -> int:
    parser = argparse.ArgumentParser(description="prove the graph of today against the approved one")
    parser.add_argument("--approve", action="store_true", help="write the approved graph")
    parser.add_argument("--forget", action="store_true", help="build a graph with a race")
    parser.add_argument("--file", type=Path, default=Path("approved.fir"))
    options = parser.parse_args()

    today = build(forget=options.forget)
    if options.approve:
        options.file.write_text(print_graph(today), encoding="utf-8")
        print(f"approved: {options.file}")
        return 0
    verdict = check(today)
    if not verdict.proved:
        for explanation in explain(today, verdict):
            print(explanation.witness, *(repair.sentence for repair in explanation.repairs), sep="\n")
        return 1
    certificate = certify(parse_graph(options.file.read_text(encoding="utf-8"), str(options.file)), today)
    print(f"{options.file}: {certificate.status}", *(finding.message for finding in certificate.findings), sep="\n")
    return 0 if certificate.status == "proved" else 1


if __name__ == "__main__":
    sys.exit(main())
