"""Divergence: what values and branches depend on, and so which of them are equal for all threads of a CTA.

A fixpoint over registers. A value depends on what its operands depend on, on the guard of the instruction, and on the
branches that decide whether the instruction is executed (a value that several paths write, or that a loop leaves after
a different number of turns, differs between threads even if each write of it would not).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.opcodes import COMPUTING, effects, uses, writes
from forerun.ptx.syntax import Instruction

__all__ = ["CTA", "Divergence", "Sources", "divergence"]

Sources = frozenset[str]
"""What a value depends on: ``ctaid``, ``tid``, ``laneid``, ``lanes``, ``clock``, ``loaded`` or ``unknown``."""

CTA: Sources = frozenset({"ctaid"})
"""What is equal for all threads of a CTA, though not for all of a grid."""

_EQUAL = (
    *("ntid", "nctaid", "nclusterid", "cluster_nctaid", "cluster_nctarank", "is_explicit_cluster", "gridid", "envreg"),
    *("total_smem_size", "dynamic_smem_size", "aggr_smem_size"),
)
_OF_THE_CTA = ("ctaid", "clusterid", "cluster_ctaid", "cluster_ctarank")
_SPECIAL = {
    **dict.fromkeys(_EQUAL, frozenset[str]()),
    **dict.fromkeys(_OF_THE_CTA, CTA),
    "tid": frozenset({"tid"}),
    **dict.fromkeys(("laneid", "warpid", "lanemask"), frozenset({"laneid"})),
    **dict.fromkeys(("clock", "clock64", "clock_hi", "globaltimer"), frozenset({"clock"})),
}
_BETWEEN_LANES = frozenset(
    ["activemask", "elect", "match", "movmatrix", "redux", "shfl", "vote", "mma", "wmma", "wgmma"]
)
_NOTHING: Sources = frozenset()
_UNKNOWN: Sources = frozenset({"unknown"})


@dataclass(frozen=True)
class Divergence:
    """What registers, branches and blocks of a function depend on.

    Attributes:
        registers: For each register that is written.
        branches: For each instruction that ends a block under a guard or goes to a computed place, by its index.
        blocks: For each block, what decides whether a thread executes it.
    """

    registers: Mapping[str, Sources]
    branches: Mapping[int, Sources]
    blocks: tuple[Sources, ...]

    def is_uniform(self, branch: int) -> bool:
        """Whether all threads of a CTA that come to a branch go the same way."""
        return self.branches[branch] <= CTA

    def is_convergent(self, block: int) -> bool:
        """Whether either all threads of a CTA execute a block, equally often, or none does."""
        return self.blocks[block] <= CTA


def divergence(flow: ControlFlow, *, is_entry: bool = True) -> Divergence:
    """What the registers and branches of a function depend on.

    Args:
        flow: The function.
        is_entry: Whether its parameters are equal for all threads, as those of kernels are.
    """
    registers = dict.fromkeys((_whole(r.name) for one in flow.instructions for r in writes(one)), _NOTHING)
    blocks: list[Sources] = [_NOTHING] * len(flow.blocks)
    changed = True
    while changed:
        changed = False
        for number in flow.graph.order:
            deciding = flow.graph.controllers[number]
            found = _NOTHING.union(*(_of_branch(flow.branch_of(b), registers) | blocks[b] for b in deciding))
            changed |= not found <= blocks[number]
            blocks[number] |= found
            for index in flow.blocks[number]:
                one = flow.instructions[index]
                found = _of_result(one, registers, is_entry) | blocks[number]
                for name in (_whole(register.name) for register in writes(one)):
                    changed |= not found <= registers[name]
                    registers[name] |= found
    ends = {block[-1]: flow.instructions[block[-1]] for block in flow.blocks}
    branches = {i: _of_branch(one, registers) for i, one in ends.items() if one.guard is not None or one.base == "brx"}
    return Divergence(registers, branches, tuple(blocks))


def _of_branch(one: Instruction, registers: Mapping[str, Sources]) -> Sources:
    is_branch = one.base == "brx" or one.guard is not None
    return _of_used(one, registers) if is_branch else _NOTHING


def _of_result(one: Instruction, registers: Mapping[str, Sources], is_entry: bool) -> Sources:
    found = _of_used(one, registers)
    if one.base in _BETWEEN_LANES:
        return found | {"lanes"}
    if one.base in COMPUTING or one.opcode.startswith("ld.const"):
        return found
    if one.opcode.startswith("ld.param"):
        return found if is_entry else found | _UNKNOWN
    kinds = {effect.kind for effect in effects(one)}
    return found | (_UNKNOWN if "unknown" in kinds or not kinds else {"loaded"})


def _of_used(one: Instruction, registers: Mapping[str, Sources]) -> Sources:
    return _NOTHING.union(*(_of_register(register.name, registers) for register in uses(one)))


def _of_register(name: str, registers: Mapping[str, Sources]) -> Sources:
    whole = _whole(name)
    if whole in registers:
        return registers[whole]
    special = next((s for s in ("lanemask", "envreg") if whole.startswith(f"%{s}")), whole.removeprefix("%"))
    return _SPECIAL.get(special, _UNKNOWN)


def _whole(name: str) -> str:
    """The register, without the component of a vector."""
    return name.partition(".")[0]
