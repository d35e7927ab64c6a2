"""Threads that run PTX on memory: what the tests of checks, delays and planted faults execute texts with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.operands import Address, Operand, Register, Symbol, Vector
from forerun.ptx.syntax import Instruction
from tests.ptx.machine import Thread, extended

__all__ = ["AnyMemory", "Memory", "RunningThread", "threads_of"]

RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "eq": int.__eq__, "ne": int.__ne__, "lt": int.__lt__, "le": int.__le__, "gt": int.__gt__, "ge": int.__ge__,
}  # fmt: skip
SHARED = range(1 << 24, 1 << 25)
"""Generic addresses of shared memory, in these tests."""


class Memory(Protocol):
    """What a thread loads from and stores to; sizes are in bytes."""

    def load(self, address: int, size: int, *, waited: bool) -> int: ...

    def store(self, address: int, size: int, value: int) -> None: ...


class AnyMemory:
    """Memory at any address. What nobody stored follows from the address."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def load(self, address: int, size: int, *, waited: bool = False) -> int:
        found = (self.bytes.get(at, (at * 2654435761 >> 7) & 255) for at in range(address, address + size))
        return int.from_bytes(bytes(found), "little")

    def store(self, address: int, size: int, value: int) -> None:
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        self.bytes.update(zip(range(address, address + size), data, strict=True))


@dataclass
class RunningThread(Thread):
    """A thread with memory. It notes what it executes, each with the address and whether it has waited."""

    memory: Memory = field(default_factory=AnyMemory)
    variables: Mapping[str, int] = field(default_factory=dict)
    waited: bool = False
    accessed: list[tuple[Instruction, int, bool]] = field(default_factory=list)
    sleeps: list[int] = field(default_factory=list)

    def address(self, operand: object) -> int:
        assert isinstance(operand, Address)
        assert operand.base is not None
        assert operand.offset is not None
        return (self.value(operand.base) + operand.offset) % (1 << 64)

    def value(self, operand: Operand) -> int:
        return self.variables[operand.name] if isinstance(operand, Symbol) else super().value(operand)

    def execute(self, one: Instruction, index: int) -> None:
        match one.base:
            case "prefetch":
                pass
            case "griddepcontrol":
                self.waited |= one.opcode == "griddepcontrol.wait"
            case "nanosleep":
                self.sleeps.append(self.value(one.operands[0]))
            case "isspacep":
                self.write(one.operands[0], int(self.value(one.operands[1]) not in SHARED))
            case "setp":
                self._compare(one)
            case "and" | "not" if one.parts[-1] == "pred":
                values = [self.value(operand) for operand in one.operands[1:]]
                self.write(one.operands[0], int(all(values)) if one.base == "and" else 1 - values[0])
            case "ld" | "st" | "atom" | "red" if one.parts[1] != "param":
                self._access(one)
            case "cp" if one.parts[2] in ("ca", "cg"):
                self._copy(one)
            case _:
                super().execute(one, index)

    def _compare(self, one: Instruction) -> None:
        first, second = (extended(self.value(operand), one.parts[-1]) for operand in one.operands[1:3])
        found = RELATIONS[one.parts[1]](first, second)
        if len(one.operands) > 3:
            text = str(one.operands[3])
            other = bool(self.registers[text.removeprefix("!")]) != text.startswith("!")
            found = found and other if one.parts[2] == "and" else found or other
        self.write(one.operands[0], int(found))

    def _copy(self, one: Instruction) -> None:
        """An asynchronous copy, done at once: as many bytes as its last operand says, then zeros."""
        target, source = self.address(one.operands[0]), self.address(one.operands[1])
        size = count = self.value(one.operands[2])
        for limit in one.operands[3 : -1 if "cache_hint" in one.opcode else None]:
            name = str(limit).lstrip("!")
            if name.startswith("%p"):  # nothing is read where it is true
                count = size if bool(self.registers[name]) == str(limit).startswith("!") else 0
            else:
                count = self.value(limit)
        if count:
            self.accessed.append((one, source, self.waited))
        self.memory.store(target, size, self.memory.load(source, count, waited=self.waited))

    def _access(self, one: Instruction) -> None:
        size = int(one.parts[-1][1:]) // 8
        at = 0 if one.base in ("st", "red") else 1
        address = self.address(one.operands[at])
        self.accessed.append((one, address, self.waited))
        other = one.operands[0 if at else 1]
        items = other.items if isinstance(other, Vector) else (other,)
        for number, item in enumerate(items):
            place = address + number * size
            if one.base == "ld":
                assert isinstance(item, Register)
                self.write(item, self.memory.load(place, size, waited=self.waited), 8 * size)
            elif one.base == "st":
                self.memory.store(place, size, self.value(item))
            else:
                before = self.memory.load(place, size, waited=True)
                self.memory.store(place, size, before + self.value(one.operands[-1]))
                if one.base == "atom":
                    self.write(other, before, 8 * size)


def threads_of(
    flow: ControlFlow, parameters: Mapping[str, int], memory: Memory, variables: Mapping[str, int] | None = None,
    ctas: int = 2, threads: int = 4,
) -> list[RunningThread]:  # fmt: skip
    """All threads of a grid, each run to its end after the other."""
    names = [f"%{word}.{axis}" for word in ("tid", "ctaid") for axis in "yz"]
    found = []
    for cta in range(ctas):
        for number in range(threads):
            sizes = {"%ntid.x": threads, "%nctaid.x": ctas, "%nctaid.y": 1, "%nctaid.z": 1}
            special = {"%tid.x": number, "%ctaid.x": cta, **sizes, **dict.fromkeys(names, 0)}
            thread = RunningThread(flow, special, parameters, memory=memory, variables=variables or {})
            thread.run(lambda *_: None, most=20000)
            found.append(thread)
    return found
