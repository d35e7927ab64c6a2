"""The control flow of a function: its instructions with names that are unique, in blocks, on a graph of blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from forerun.ptx.operands import Register, Symbol, registers_of, with_registers
from forerun.ptx.syntax import Brace, Declaration, Directive, Function, Instruction, Label
from forerun.support.cfg import FlowGraph, reach
from forerun.support.diagnostics import InvalidInput

__all__ = ["ENDS", "ControlFlow", "control_flow", "may_follow"]

ENDS = frozenset({"ret", "exit", "trap"})
"""Opcodes after which a thread does nothing more in the function."""

_JUMPS = frozenset({"bra", "brx"})


@dataclass(frozen=True)
class ControlFlow:
    """The control flow of a function.

    Attributes:
        instructions: In the order of the body. A register that is declared between inner braces has the number of its
            scope behind its name (``p@3``), so that equal names are equal registers.
        positions: Where each instruction stands in ``Function.body``.
        types: The type of each register that is declared, ``.b64``, by its name without the component.
        blocks: The instructions of each block; control enters at the first, and leaves after the last.
        graph: The blocks, by their numbers.
    """

    instructions: tuple[Instruction, ...]
    positions: tuple[int, ...]
    types: Mapping[str, str]
    blocks: tuple[range, ...]
    graph: FlowGraph

    @cached_property
    def block_of(self) -> tuple[int, ...]:
        """The number of the block of each instruction."""
        return tuple(number for number, block in enumerate(self.blocks) for _ in block)

    @cached_property
    def reached(self) -> frozenset[int]:
        """The instructions that some path comes to."""
        return frozenset(index for block in self.graph.order for index in self.blocks[block])

    def dominates(self, first: int, second: int) -> bool:
        """Whether every thread that comes to the second instruction has come to the first before, or is there."""
        a, b = self.block_of[first], self.block_of[second]
        return first <= second if a == b else self.graph.dominates(a, b)

    def branch_of(self, block: int) -> Instruction:
        """The last instruction of a block."""
        return self.instructions[self.blocks[block][-1]]


def may_follow(flow: ControlFlow, firsts: Collection[int], seconds: Collection[int]) -> bool:
    """Whether a thread may come to one of the second instructions after one of the first."""
    blocks = {flow.block_of[index] for index in firsts}
    after = reach([s for block in blocks for s in flow.graph.successors[block]], flow.graph.successors.__getitem__)
    begin = {block: min(index for index in firsts if flow.block_of[index] == block) for block in blocks}
    return any(flow.block_of[index] in after or index > begin.get(flow.block_of[index], index) for index in seconds)


class _Scope:
    """What is declared between two braces."""

    def __init__(self, number: int, outer: _Scope | None) -> None:
        self.number = number
        self.outer = outer
        self.registers: dict[str, tuple[int | None, str]] = {}  # how many, and their type
        self.labels: dict[str, int] = {}
        self.targets: dict[str, tuple[str, ...]] = {}  # of .branchtargets

    def around(self) -> Iterator[_Scope]:
        """This scope, and those around it."""
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def declared(self, name: str) -> tuple[_Scope, str] | None:
        """The scope where a register is declared, and its type."""
        stem = name.partition(".")[0]
        letters = stem.rstrip("0123456789")
        digits = stem[len(letters) :]
        for scope in self.around():
            count, type_ = scope.registers.get(letters, (None, "")) if digits else (None, "")
            if count is not None and int(digits) < count:
                return scope, type_
            count, type_ = scope.registers.get(stem, (0, ""))
            if count is None:
                return scope, type_
        return None

    def unique(self, name: str) -> str:
        """The name of a register, with the number of the scope where it is declared, unless that is the function."""
        found = self.declared(name)
        if found is None or found[0].outer is None:
            return name
        stem, dot, component = name.partition(".")
        return f"{stem}@{found[0].number}{dot}{component}"


def control_flow(function: Function) -> ControlFlow:
    """The control flow of a function that has a body.

    A computed branch (``brx.idx``) goes to its targets; if they are not known, to every label.

    Raises:
        InvalidInput: If a branch names a label that is not there, or the body is only declared.
    """
    if function.body is None:
        raise InvalidInput(f"function {function.name} has no body")
    found, outermost = _flattened(function)
    # Names are looked at now that all of them are known.
    scopes = [scope for _, _, scope in found]
    instructions = [_renamed(one, scope) if scope.outer else one for one, _, scope in found]
    ways = _Ways(function.name, instructions, scopes, outermost)
    targets = [ways.targets(index) for index in range(len(instructions))]
    begins = {0} | {target for found in targets for target in found}
    begins |= {i + 1 for i, one in enumerate(instructions) if one.base in _JUMPS or one.base in ENDS}
    cuts = sorted(begin for begin in begins if begin < len(instructions))
    blocks = tuple(range(a, b) for a, b in pairwise([*cuts, len(instructions)]))
    number = {block.start: index for index, block in enumerate(blocks)}
    successors, exits = [], set()
    for index, block in enumerate(blocks):
        last = instructions[block[-1]]
        after = [number[target] for target in targets[block[-1]] if target in number]
        goes_on = last.guard is not None or last.base not in _JUMPS | ENDS
        if goes_on and index + 1 < len(blocks):
            after.append(index + 1)
        if last.base in ENDS or (goes_on and index + 1 == len(blocks)) or len(instructions) in targets[block[-1]]:
            exits.add(index)
        successors.append(tuple(dict.fromkeys(after)))
    graph = FlowGraph(tuple(successors), frozenset(exits))
    positions = tuple(position for _, position, _ in found)
    return ControlFlow(tuple(instructions), positions, _types(found, instructions), blocks, graph)


_Placed = tuple[Instruction, int, _Scope]


def _flattened(function: Function) -> tuple[list[_Placed], _Scope]:
    """Instructions, the place in the body and the scope of each; and the outermost scope."""
    scope = outermost = _Scope(0, None)
    for one in (*function.returns, *(function.parameters or ())):
        if one.space == ".reg":
            scope.registers.update((name.name, (name.count, one.type)) for name in one.names)
    found: list[_Placed] = []
    count, label = 0, ""
    for position, statement in enumerate(function.body or ()):
        match statement:
            case Instruction():
                found.append((statement, position, scope))
            case Label():
                label = statement.name
                scope.labels[label] = len(found)
            case Brace("{"):
                count += 1
                scope = _Scope(count, scope)
            case Brace():
                scope = scope.outer or outermost
            case Declaration(".reg"):
                scope.registers.update((one.name, (one.count, statement.type)) for one in statement.names)
            case Directive() if statement.name == ".branchtargets":
                scope.targets[label] = statement.arguments
    return found, outermost


def _types(found: list[_Placed], instructions: list[Instruction]) -> Mapping[str, str]:
    types: dict[str, str] = {}
    for (before, _, scope), after in zip(found, instructions, strict=True):
        for own, unique in zip(_registers(before), _registers(after), strict=True):
            stem = unique.name.partition(".")[0]
            if stem not in types:
                declared = scope.declared(own.name)
                types[stem] = "" if declared is None else declared[1]
    return types


def _registers(one: Instruction) -> Iterator[Register]:
    if one.guard is not None:
        yield one.guard.register
    for operand in one.operands:
        yield from registers_of(operand)


class _Ways:
    """Where jumps go."""

    def __init__(self, name: str, instructions: list[Instruction], scopes: list[_Scope], outermost: _Scope) -> None:
        self.name = name
        self.instructions = instructions
        self.scopes = scopes
        self.outermost = outermost

    def targets(self, index: int) -> tuple[int, ...]:
        """The instructions that a jump goes to; nothing for all else."""
        one = self.instructions[index]
        if one.base == "bra" and one.operands:
            return (self._label(index, str(one.operands[0])),)
        if one.base != "brx":
            return ()
        listed = one.operands[1] if len(one.operands) > 1 else None
        for scope in self.scopes[index].around():
            if isinstance(listed, Symbol) and listed.name in scope.targets:
                return tuple(self._label(index, label) for label in scope.targets[listed.name])
        every = {id(scope): scope for scope in (self.outermost, *self.scopes)}
        return tuple(place for scope in every.values() for place in scope.labels.values())

    def _label(self, index: int, label: str) -> int:
        for scope in self.scopes[index].around():
            if label in scope.labels:
                return scope.labels[label]
        line = self.instructions[index].line
        raise InvalidInput(f"function {self.name}, line {line}: a branch to '{label}', which is not a label here")


def _renamed(one: Instruction, scope: _Scope) -> Instruction:
    names = {register.name: scope.unique(register.name) for register in _registers(one)}
    if all(before == after for before, after in names.items()):
        return one
    guard = None if one.guard is None else replace(one.guard, register=Register(names[one.guard.register.name]))
    operands = (with_registers(operand, lambda own: Register(names[own.name])) for operand in one.operands)
    return replace(one, operands=tuple(operands), guard=guard)
