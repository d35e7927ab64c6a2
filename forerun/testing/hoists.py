"""The oracle of hoisted loads: the machine code, read back."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.ir.graph import Graph
from forerun.runtime.cuda.codegen.build import Code, build_code
from forerun.runtime.cuda.sass.inspection import prove_code
from forerun.runtime.cuda.sass.proof import UnitProof

__all__ = ["assert_hoists_survive"]


def assert_hoists_survive(graph: Graph, arch: str = "sm_90", *, at_least: int = 0) -> tuple[UnitProof, ...]:
    """Assert that the machine code of a graph keeps the order of its bodies: no hoist is lost, nothing else moved.

    Needs the toolchain, and no GPU.

    Args:
        graph: A graph after its passes.
        arch: The architecture to compile for.
        at_least: How many different hoisted phases there must be, so that the test can fail.

    Returns:
        What was found of each unit.

    Raises:
        AssertionError: If a load was sunk below its wait, moved above one, cannot be ordered (``.nc``), or cannot be
            told from others; see docs/sass-proof.md.
        ToolchainMissing: If there is no toolchain.

    Example:
        >>> from forerun import GraphBuilder
        >>> from forerun.runtime.toolchain import missing_toolchain
        >>> if missing_toolchain() is None:
        ...     proofs = assert_hoists_survive(GraphBuilder("nothing").build())
    """
    code = build_code(graph, arch)
    proofs = prove_code(graph, code)
    problems = [problem for number, proof in proofs.items() for problem in _problems(code, number, proof)]
    if problems:
        raise AssertionError("\n".join([f"graph '{graph.name}' on {arch}:", *problems]))
    hoisted = sum(len(proof.hoisted) for proof in proofs.values())
    if hoisted < at_least:
        raise AssertionError(f"graph '{graph.name}': {hoisted} phases are hoisted, not {at_least} or more")
    return tuple(proofs.values())


def _problems(code: Code, number: int, proof: UnitProof) -> Iterator[str]:
    nodes = [path for path, unit in code.unit_of.items() if unit == number]
    head = f"node '{nodes[0]}', kernel '{proof.kernel}'"
    for finding in proof.findings:
        yield f"  {head}: {finding}"
    unseen = [phase.phase for phase in proof.phases if phase.place == "before" and phase.verdict == "none"]
    if unseen and proof.unplaced:
        names = ", ".join(f"'{name}'" for name in unseen)
        yield f"  {head}: no load is known to come from {names}, but {proof.unplaced} loads come from no phase"
