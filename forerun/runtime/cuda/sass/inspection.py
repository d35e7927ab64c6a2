"""Look at the machine code of a graph before it is loaded: what is wrong is refused, what is slow is told.

Passes ask here whether a body survives the assembler. No GPU is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Wait
from forerun.runtime.cuda.codegen.build import Code, build_code
from forerun.runtime.cuda.codegen.unit import ForeignModule, Unit
from forerun.runtime.cuda.sass.occupancy import Occupancy, occupancy
from forerun.runtime.cuda.sass.proof import Finding, UnitProof, prove_unit
from forerun.runtime.toolchain import EntryFacts, ToolchainMissing, missing_toolchain, processors
from forerun.runtime.toolchain.image import facts_of_image
from forerun.support.diagnostics import Diagnostic, ForerunError, InternalError, Location, Severity

__all__ = ["Inspection", "assess", "entry_facts", "inspect_code", "prove_code"]

_HINT = "no pass makes this: it is between the phases' source and the assembler; see docs/sass-proof.md"


@dataclass(frozen=True)
class Inspection:
    """What is known of a graph's machine code.

    Attributes:
        proofs: By the number of the unit.
        occupancy: What fits on a multiprocessor together; ``None`` on an unknown architecture.
        remarks: What makes the program slower than meant, or could not be looked at.
    """

    proofs: Mapping[int, UnitProof]
    occupancy: Occupancy | None
    remarks: tuple[Diagnostic, ...]


def entry_facts(code: Code) -> dict[str, EntryFacts]:
    """The facts of the nodes whose entries were compiled, by the nodes' paths."""
    found = {path: code.entries[number] for path, number in code.unit_of.items() if number < len(code.entries)}
    return {path: facts for path, facts in found.items() if facts is not None}


def prove_code(graph: Graph, code: Code) -> dict[int, UnitProof]:
    """The proof of every unit that was compiled here, by its number.

    Raises:
        ToolchainMissing: If there is no disassembler.
    """
    facts = {number: found for number, found in enumerate(code.entries) if found is not None}
    if not facts:
        return {}
    with ThreadPoolExecutor(min(len(facts), processors())) as pool:  # the disassembler is a process of its own
        kernels = {number: graph.kernels[code.kernel_of[number]] for number in facts}
        proofs = pool.map(lambda n: _proved(kernels[n], code.units[n], code.images[n], facts[n]), facts)
        return dict(zip(facts, proofs, strict=True))


@lru_cache(maxsize=512)
def _proved(kernel: Kernel, unit: Unit, image: bytes, facts: EntryFacts) -> UnitProof:
    """The proof of a unit; of one that is loaded again, the same one. ``image`` is what the facts are of."""
    del image
    return prove_unit(kernel, unit, facts)


def inspect_code(graph: Graph, code: Code, arch: str, multiprocessors: int) -> Inspection:
    """Compare machine code with the bodies it was made from, and see what fits together.

    Raises:
        InternalError: If an image breaks an order that the absence of races rests on.
    """
    found = occupancy(graph, entry_facts(code), arch, multiprocessors)
    try:
        proofs = prove_code(graph, code)
    except ToolchainMissing as error:
        place = Location("graph", graph.name)
        unproved = Diagnostic("S0", f"hoisted loads are not proved: {error.message}", place, severity=Severity.WARNING)
        return Inspection({}, found, (unproved, *(found.remarks() if found else ())))
    races = [*_foreign(graph, code)]
    races += [(number, finding) for number, proof in proofs.items() for finding in proof.races]
    if races:
        raise _refusal(code, races)
    lost = chain.from_iterable(_lost(code, number, proof) for number, proof in proofs.items())
    return Inspection(proofs, found, (*lost, *(found.remarks() if found else ())))


def _foreign(graph: Graph, code: Code) -> Iterator[tuple[int, Finding]]:
    """Machine code that is given without the wait that its kernel declares; PTX gets the wait if it has none."""
    for number, unit in enumerate(code.units):
        source = unit.source
        if not isinstance(source, ForeignModule) or source.language != "cubin":
            continue
        if graph.kernels[code.kernel_of[number]].has(Wait):
            facts = facts_of_image(source.code, unit.entry)
            if facts is None or not facts.always_waits:
                yield number, Finding("S1", "race", f"the body waits, but not every thread of {source.location} does")


def _nodes(code: Code, number: int) -> list[str]:
    return [path for path, unit in code.unit_of.items() if unit == number]


def _refusal(code: Code, races: list[tuple[int, Finding]]) -> InternalError:
    diagnostics = []
    for number, finding in races:
        node, *others = _nodes(code, number)
        more = f" (and of {len(others)} other nodes)" if others else ""
        message = f"machine code of kernel '{code.kernel_of[number]}'{more}: {finding.message}"
        diagnostics.append(Diagnostic(finding.code, message, Location("node", node)))
    number, finding = races[0]
    node = _nodes(code, number)[0]
    phase = f", phase '{finding.phase}'" if finding.phase else ""
    where = f"node '{node}', kernel '{code.kernel_of[number]}'{phase}"
    message = f"{where}: the machine code does not keep the order that the proof rests on"
    return InternalError(message, tuple(diagnostics), _HINT)


def _lost(code: Code, number: int, proof: UnitProof) -> Iterator[Diagnostic]:
    nodes = _nodes(code, number)
    more = f" (in {len(nodes)} nodes)" if len(nodes) > 1 else ""
    for finding in proof.lost:
        message = f"kernel '{proof.kernel}'{more}: {finding.message}"
        hint = "the result is right, but comes later"
        yield Diagnostic(finding.code, message, Location("node", nodes[0]), hint, Severity.WARNING)


def assess(candidates: Sequence[Graph], arch: str) -> tuple[int, str]:
    """Choose the first graph that compiles, spills no registers, and keeps the order of its bodies.

    The candidates are valid and mean the same, strongest first; the last is taken if no other is fit.

    Returns:
        Its number, and what is wrong with the one before it.
    """
    if missing_toolchain() is not None:
        return 0, "no toolchain to assess it with"
    reason = "nothing is wrong with it"
    for number, candidate in enumerate(candidates[:-1]):
        wrong = _unfitness(candidate, arch)
        if not wrong:
            return number, reason
        reason = wrong
    return len(candidates) - 1, reason


def _unfitness(graph: Graph, arch: str) -> str:
    """Why a graph's machine code is not what is wanted; empty if it is."""
    try:
        code = build_code(graph, arch)
    except ForerunError as error:
        return f"it cannot be compiled: {error.message}"
    for unit, facts in zip(code.units, code.entries, strict=True):
        if facts is not None and facts.spill_store_bytes:
            return f"'{unit.entry}' spills {facts.spill_store_bytes} bytes of registers a thread"
    for proof in prove_code(graph, code).values():
        if proof.findings:
            return f"kernel '{proof.kernel}': {proof.findings[0].message}"
    return ""
