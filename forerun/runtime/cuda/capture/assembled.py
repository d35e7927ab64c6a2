"""Changed PTX of captured kernels, assembled as its framework does, and looked at before it may be used."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from forerun.captured.graph import AssembledText, CapturedFunction, CapturedNode
from forerun.ir.kernel import Kernel, Wait
from forerun.ir.nodes import Launch
from forerun.runtime.cuda.capture.verified import assemble_as
from forerun.runtime.cuda.codegen.body import CannotGenerate
from forerun.runtime.cuda.codegen.foreign import follow_body
from forerun.runtime.cuda.sass.occupancy import LIMITS, footprint
from forerun.runtime.toolchain import EntryFacts
from forerun.runtime.toolchain.image import facts_of_image
from forerun.runtime.toolchain.ptxas import resources

__all__ = ["MadeCode", "make_code"]

_ARITHMETIC = re.compile(r"(U?[DFH](ADD|FMA|MUL|MNMX|SETP?|SWZADD|CHK)|MUFU|[A-Z]*MMA|F2F|F2FP|F2I|I2F)[\d.]*")
_CONSTANT = re.compile(r"HFMA2[.\w]* R\w+, -RZ, RZ,")
"""How ptxas puts a constant into a register."""


@dataclass(frozen=True, slots=True)
class MadeCode:
    """Machine code for a kernel with another body.

    Attributes:
        code: The cubin.
        turns: Of how many turns of a loop it fetches the loads ahead; 0 if it fetches none.
        refused: Why stronger forms were refused, a sentence each.
    """

    code: bytes
    turns: int
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Old:
    """The code that is replaced, and how it is launched."""

    function: CapturedFunction
    image: bytes
    node: CapturedNode


def make_code(
    text: AssembledText,
    assembler: tuple[str, str],
    kernel: Kernel,
    function: CapturedFunction,
    image: bytes,
    node: CapturedNode,
    turns: int,
) -> MadeCode | str:
    """The strongest form of a kernel's new body that is fit; why there is none, if there is none.

    Code is fit if every thread waits before it accesses memory, its arithmetic is that of the old code instruction for
    instruction, nothing spills that did not, and as many CTAs fit on a multiprocessor as before.

    Args:
        text: The kernel's PTX.
        assembler: The path of the ptxas that made the old code, and the architecture.
        kernel: The kernel with its new body.
        function: The function that is loaded.
        image: Its machine code.
        node: One of the nodes that launch it.
        turns: For loads in loops: of how many turns they are fetched at the most; 0 fetches nothing.
    """
    old = _Old(function, image, node)
    refused: list[str] = []
    for count in dict.fromkeys((turns, min(turns, 1), 0)):
        try:
            changed = follow_body(text.text, kernel, function.name, count)
        except CannotGenerate as error:
            return str(error)
        code, log = assemble_as(changed, text.options, *assembler)
        problem = _unfit(code, log, old, kernel.has(Wait)) if code else f"ptxas refuses it: {log.strip()[:300]}"
        if not problem:
            return MadeCode(code, count, tuple(refused))
        refused.append(problem)
    return refused[-1]


def _unfit(code: bytes, log: str, old: _Old, waits: bool) -> str:
    name = old.function.name
    new, before = facts_of_image(code, name), facts_of_image(old.image, name)
    if new is None or before is None:
        return "its machine code has no such kernel"
    if waits and (not new.always_waits or new.before_wait("load", "store", "bulk")):
        return "in its machine code an access stands before the wait"
    if _arithmetic(new) != _arithmetic(before):
        return "ptxas makes other arithmetic of it, so results could differ"
    found = resources(log).get(name)
    if found is None:
        return "ptxas does not tell its registers"
    if found.spill_store_bytes and found.stack_bytes > old.function.attributes.get("local_bytes", 0):
        return f"it spills {found.spill_store_bytes} bytes"
    launch = Launch(old.node.grid, old.node.block, old.node.shared_bytes)
    shared = old.function.attributes.get("shared_bytes", 0)
    fits = [_resident(launch, EntryFacts(count, shared)) for count in (found.registers, _registers(old.function))]
    if fits[0] < min(fits[1], math.prod(launch.grid)):
        return f"only {fits[0]} of its CTAs fit on a multiprocessor, and {fits[1]} before"
    return ""


def _registers(function: CapturedFunction) -> int:
    return function.attributes.get("registers", 255)


def _resident(launch: Launch, facts: EntryFacts) -> int:
    """How many CTAs a multiprocessor holds at once."""
    one, limits = footprint(launch, facts), LIMITS["sm_90"]
    most = [limits.ctas, limits.threads // one.threads, limits.shared_bytes // one.shared_bytes]
    return min(*most, limits.registers // one.registers if one.registers else limits.ctas)


def _arithmetic(facts: EntryFacts) -> Mapping[str, int]:
    """How often each floating-point instruction stands in the code."""
    found: Counter[str] = Counter()
    for one in facts.instructions:
        if _ARITHMETIC.match(one.opcode) and not _CONSTANT.search(one.text):
            found[one.opcode] += 1
    return found
