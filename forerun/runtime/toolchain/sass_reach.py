"""Through which pointers among its parameters a kernel's machine code accesses global memory.

Forward abstract interpretation of the registers, to a fixpoint. A value is a set of alternatives, since ways meet:

- a number: no pointer, and nothing from memory;
- rooted: a sum with a pointer that a parameter holds. As in C++, a pointer plus a number stays in what it points into;
- tainted: from memory, from other lanes, from bits of a pointer, or not understood. It may be any address.

A sum with several pointers may be an address through each. Where one is subtracted, the difference may be a number, and
a tainted value that is added to it the pointer. A parameter whose place is in a register may be a number, or any of the
pointers. Taken for granted: accesses through null pointers are not executed, returns go behind relative calls, and a
product with such a parameter is a number.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from forerun.runtime.toolchain.elf import sections
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.instruction import Instruction
from forerun.runtime.toolchain.sass_cfg import flow_graph
from forerun.runtime.toolchain.sass_steps import (
    FIRST,
    LINKED,
    NULL,
    NUMBER,
    PLACES,
    PRIVATE,
    ROOTS,
    SOME_HALF,
    SUBTRACTS,
    TAINTED,
    WITH_TAINTED,
    Linked,
    Reader,
    Step,
    sum_of,
)
from forerun.support.cfg import FlowGraph

__all__ = ["Linked", "Reach", "linked_of", "reach_of"]


@dataclass(frozen=True, slots=True)
class Reach:
    """The global memory that a kernel may access.

    Attributes:
        reads: Where in its parameters the pointers are through which it may read.
        writes: Those through which it may write.
        unknown: Why it may access anything; empty if it does not.
    """

    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    unknown: str = ""


def reach_of(
    facts: EntryFacts,
    pointers: frozenset[int],
    base: int,
    nulls: frozenset[int] = frozenset(),
    linked: Linked | None = None,
) -> Reach:
    """What a kernel may access through its parameters.

    To read a variable that only the module can name does not count; a kernel that writes one may access anything.

    Args:
        facts: The kernel's instructions.
        pointers: Where in its parameters the 64-bit words are that may hold addresses of memory, in bytes.
        base: Where the parameters begin in constant bank 0: 0x210 for ``sm_90``, 0x380 since ``sm_100``.
        nulls: Where the 64-bit words are that are 0 at all launches in question; they may be null pointers.
        linked: What is known of constant bank 4; by default, nothing is.
    """
    words = {base + at: 1 << FIRST + number for number, at in enumerate(sorted(pointers))}
    reader = Reader({**{base + at: NULL for at in nulls - pointers}, **words}, linked or Linked())
    steps = [reader.step(instruction) for instruction in facts.instructions]
    reads = writes = 0
    for index, state in _states(steps, _ways(facts.instructions)):
        roots, reason = _accessed(steps[index], state, reader.linked)
        if reason:
            return Reach(unknown=f"'{facts.instructions[index].text}' {reason}")
        roots |= -1 << FIRST if roots & SOME_HALF else 0
        reads |= roots if steps[index].reads else 0
        writes |= roots if steps[index].writes else 0
    read, written = (frozenset(at - base for at, bit in words.items() if bit & roots) for roots in (reads, writes))
    return Reach(read, written)


def linked_of(code: bytes) -> Linked:
    """What stands in constant bank 4 of a cubin, after its relocations.

    Raises:
        ValueError: If this is not a cubin.
    """
    found = sections(code)
    table, names = found.get(".symtab", b""), found.get(".strtab", b"")
    variables, calls = set(), ".rel.nv.constant4" not in found
    for at, info, _ in struct.iter_unpack("<QQq", found.get(".rela.nv.constant4", b"")):
        name, kind, _, section, _, _ = struct.unpack_from("<IBBHQQ", table, (info >> 32) * 24)
        if kind == 1:  # STB_LOCAL, STT_OBJECT
            variables.add(at)
        elif kind & 0xF != 1:
            calls &= section == 0 and names[name : names.find(b"\0", name)] in (b"__assertfail", b"vprintf")
    return Linked(calls, frozenset(variables))


def _accessed(step: Step, state: Sequence[int], linked: Linked) -> tuple[int, str]:
    """What the address is made of that an instruction accesses, or why it may be any."""
    if step.calls is not None:
        is_harmless = linked.calls and step.calls >= 0 and state[step.calls] & ~NUMBER == LINKED
        return 0, "" if is_harmless else "goes to code that is not the kernel's"
    if not step.halves:
        return 0, step.reason
    lower, upper = (sum_of(half, state) for half in step.halves)
    if any(half & TAINTED or (half & SUBTRACTS and half & WITH_TAINTED) for half in (lower, upper)):
        return 0, "accesses an address that may come from memory, or from bits of a pointer"
    if not lower & ~NUMBER:
        return 0, "accesses an address that comes from no pointer"
    roots = (lower | upper) & ROOTS
    if roots & LINKED or (roots & PRIVATE and step.writes):
        return 0, "accesses a variable of its module"
    return roots, ""


def _ways(instructions: Sequence[Instruction]) -> FlowGraph:
    """The control flow, with the returns: they go behind all relative calls, and nothing else does."""
    names = [one.opcode.partition(".")[0] for one in instructions]
    calls = [at for at, one in enumerate(instructions[:-1]) if names[at] == "CALL" and one.targets]
    ways = dict(enumerate(flow_graph(instructions).successors))
    if "RET" in names:
        ways |= {at: tuple(to for to in ways[at] if to != at + 1) for at in calls if not instructions[at].predicated}
    behind = tuple(at + 1 for at in calls)
    ways |= {at: tuple(dict.fromkeys((*ways[at], *behind))) for at, name in enumerate(names) if name == "RET"}
    return FlowGraph(tuple(ways.values()))


def _blocks(graph: FlowGraph) -> Mapping[int, range]:
    """Instructions that follow each other without other ways in or out, by the first of them."""
    begin, found = 0, {}
    for index in sorted(graph.order):
        if index == 0 or graph.predecessors[index] != (index - 1,) or len(graph.successors[index - 1]) != 1:
            begin = index
        found[begin] = range(begin, index + 1)
    return found


class _Registers:
    """What registers hold, whatever the predicates are; and if that holds under which one was set."""

    def __init__(self, values: Sequence[int], guarded: Mapping[int, tuple[str, int]]) -> None:
        self.values = list(values)
        self.guarded = dict(guarded)

    def seen_by(self, step: Step) -> Sequence[int]:
        """What they hold when an instruction is executed."""
        if not step.guard or not self.guarded:
            return self.values
        found = self.values.copy()
        for place, (guard, value) in self.guarded.items():
            found[place] = value if guard == step.guard else found[place]
        return found

    def execute(self, step: Step) -> None:
        """What they hold after it."""
        seen = self.seen_by(step)
        if not step.guard and not self.guarded:  # most instructions
            for target, value in [(effect.target, effect.value(seen)) for effect in step.effects]:
                self.values[target] = value
            return
        for effect, value in [(effect, effect.value(seen)) for effect in step.effects]:
            guard, other = self.guarded.pop(effect.target, ("", 0))
            if step.guard:
                is_other_case = guard != step.guard and guard.lstrip("!") == step.guard.lstrip("!")
                self.guarded[effect.target] = step.guard, value
                value |= other if is_other_case else self.values[effect.target]
            self.values[effect.target] = value
        if step.predicates and self.guarded:
            kept = {at: (guard, value) for at, (guard, value) in self.guarded.items() if not step.may_set(guard)}
            self.guarded = kept

    def join(self, other: _Registers) -> bool:
        """Makes them those of either way; whether that changes them."""
        values = [one | two for one, two in zip(self.values, other.values, strict=True)]
        guarded = {
            at: (guard, value | other.guarded[at][1])
            for at, (guard, value) in self.guarded.items()
            if at in other.guarded and other.guarded[at][0] == guard
        }
        is_changed = values != self.values or guarded != self.guarded
        self.values, self.guarded = values, guarded
        return is_changed


def _states(steps: Sequence[Step], graph: FlowGraph) -> Iterator[tuple[int, Sequence[int]]]:
    """Each instruction that may be executed, and what it sees in the registers, at the fixpoint."""
    blocks = _blocks(graph)
    rank = {index: number for number, index in enumerate(graph.order)}
    before = {0: _Registers([NUMBER] * PLACES, {})} if steps else {}
    waiting = list(before)  # ranks
    while waiting:
        begin = graph.order[heapq.heappop(waiting)]
        after = _Registers(before[begin].values, before[begin].guarded)
        for index in blocks[begin]:
            after.execute(steps[index])
        for target in graph.successors[blocks[begin][-1]]:
            is_new = target not in before
            is_changed = before.setdefault(target, _Registers(after.values, after.guarded)).join(after)
            if (is_new or is_changed) and rank[target] not in waiting:
                heapq.heappush(waiting, rank[target])
    for begin in sorted(before):
        for index in blocks[begin]:
            yield index, before[begin].seen_by(steps[index])
            before[begin].execute(steps[index])
