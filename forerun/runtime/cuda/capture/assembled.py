"""Changed PTX of captured kernels, assembled as its framework does, and looked at before it may be used."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from forerun.captured.graph import AssembledText, CapturedFunction, CapturedNode
from forerun.ir.kernel import Kernel, Wait
from forerun.ir.nodes import Launch
from forerun.runtime.cuda.capture.verified import assemble_as
from forerun.runtime.cuda.codegen.body import CannotGenerate
from forerun.runtime.cuda.codegen.foreign import FollowedText, follow_body
from forerun.runtime.cuda.sass.occupancy import LIMITS, footprint
from forerun.runtime.toolchain import EntryFacts
from forerun.runtime.toolchain.image import facts_of_image
from forerun.runtime.toolchain.ptxas import resources

__all__ = ["NOT_ASSEMBLED", "MadeCode", "make_code"]

NOT_ASSEMBLED = "ptxas refuses it"
"""The beginning of the reason if the text could not be assembled."""

_ARITHMETIC = re.compile(r"(U?[DFH](ADD|FMA|MUL|MNMX|SETP?|SWZADD|CHK)|MUFU|[A-Z]*MMA|F2F|F2FP|F2I|I2F)[\d.]*")
_ENOUGH = 64 << 10
"""Bytes that a multiprocessor has on their way before the wait that make up for fewer resident CTAs."""

_CONSTANT = re.compile(r"HFMA2[.\w]* R\w+, -RZ, RZ,")
"""How ptxas puts a constant into a register."""


@dataclass(frozen=True, slots=True)
class MadeCode:
    """Machine code for a kernel with another body.

    Attributes:
        code: The cubin.
        early_loads: How many loads of the text stand before the wait.
        prefetches: How many of its prefetches stand before the wait.
        refused: Why stronger forms were refused, a sentence each.
        text: The PTX that it was assembled from.
    """

    code: bytes
    early_loads: int
    refused: tuple[str, ...] = ()
    text: str = field(default="", repr=False)
    prefetches: int = 0


@dataclass(frozen=True, slots=True)
class _Old:
    """The code that is replaced, how it is launched, and on how many multiprocessors."""

    function: CapturedFunction
    image: bytes
    node: CapturedNode
    multiprocessors: int


def make_code(
    text: AssembledText,
    assembler: tuple[str, str],
    kernel: Kernel,
    function: CapturedFunction,
    image: bytes,
    node: CapturedNode,
    multiprocessors: int,
    *,
    prefetches: bool = False,
) -> MadeCode | str:
    """The strongest form of a kernel's new body that is fit; why there is none, if there is none.

    Code is fit if no access stands before the wait but as many loads as the text has there, its arithmetic is that of
    the old code instruction for instruction, nothing spills that did not, and as many CTAs are resident as before.

    Args:
        text: The kernel's PTX.
        assembler: The path of the ptxas that made the old code, and the architecture.
        kernel: The kernel with its new body.
        function: The function that is loaded.
        image: Its machine code.
        node: One of the nodes that launch it.
        multiprocessors: Of the GPU.
        prefetches: Whether to prefetch into L2 instead of moving loads ahead of the wait.
    """
    old = _Old(function, image, node, multiprocessors)
    refused: list[str] = []
    most: int | None = None
    prefetching = _ctas_at_once(old) if prefetches else None
    while True:
        try:
            changed = follow_body(text.text, kernel, function.name, most, prefetching)
        except CannotGenerate as error:
            return str(error)
        code, log = assemble_as(changed.text, text.options, *assembler)
        waits = kernel.has(Wait)
        problem = (
            _unfit(code, log, old, changed if waits else None) if code else f"{NOT_ASSEMBLED}: {log.strip()[:300]}"
        )
        if not problem:
            return MadeCode(code, changed.early_loads, tuple(refused), changed.text, changed.prefetches)
        refused.append(problem)
        if not changed.early_loads:
            return problem
        most = min(changed.early_loads, most or changed.early_loads) // 2


def _unfit(code: bytes, log: str, old: _Old, changed: FollowedText | None) -> str:
    """Why new code may not be used; ``changed`` is ``None`` for code that need not wait."""
    name = old.function.name
    new, before = facts_of_image(code, name), facts_of_image(old.image, name)
    if new is None or before is None:
        return "its machine code has no such kernel"
    if changed is not None:
        if not new.always_waits or new.before_wait("store", "bulk"):
            return "in its machine code an access stands before the wait that may not"
        found = len(new.before_wait("load"))
        if found > changed.early_loads:
            return f"in its machine code {found} loads stand before the wait, and {changed.early_loads} may"
    if _arithmetic(new) != _arithmetic(before):
        return "ptxas makes other arithmetic of it, so results could differ"
    needs = resources(log).get(name)
    if needs is None:
        return "ptxas does not tell its registers"
    if needs["spill_store_bytes"] and needs["stack_bytes"] > old.function.attributes.get("local_bytes", 0):
        return f"it spills {needs['spill_store_bytes']} bytes"
    fits = [_resident(old, count) for count in (needs["registers"], _registers(old.function))]
    launch = Launch(old.node.grid, old.node.block, old.node.shared_bytes)
    on_their_way = fits[0] * math.prod(launch.block) * (changed.early_bytes if changed is not None else 0)
    if fits[0] < min(fits[1], -(-math.prod(launch.grid) // old.multiprocessors)) and on_their_way < _ENOUGH:
        return f"only {fits[0]} of its CTAs fit on a multiprocessor, and {fits[1]} before"
    return ""


def _registers(function: CapturedFunction) -> int:
    return function.attributes.get("registers", 255)


def _ctas_at_once(old: _Old) -> int:
    """The number of CTAs of the old code resident on the GPU at once; all, if the grid does not lie along x."""
    x, y, z = old.node.grid
    return x if y > 1 or z > 1 else min(x, old.multiprocessors * _resident(old, _registers(old.function)))


def _resident(old: _Old, registers: int) -> int:
    """The number of CTAs resident on a multiprocessor at once, given the registers of a thread."""
    launch = Launch(old.node.grid, old.node.block, old.node.shared_bytes)
    facts = EntryFacts(registers, old.function.attributes.get("shared_bytes", 0))
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
