"""Proof in the machine code: what the assembler made of the order that a kernel's body asks for.

A pass puts loads before a wait; ptxas may sink them below it, or lift others above it (docs/pdl.md, rule 9). So the
instructions of every unit are read back and compared with the body, by these rules:

    S1  a body that waits has a wait in the image (rule 13): else a race
    S2  what a role does after its wait, no thread does before one: else a race; but only lost if it is a load of what a
        phase before the wait reads, too, since then the line that names its phase may be wrong
    S3  the loads of a phase before the wait are executed before it, on every path: else lost
    S4  no load is of the kind that the memory model does not order (``ld.global.nc``, rule 9): else lost
    S5  the stores of a phase before a trigger are executed before it: else lost, or a race if it is fenced
    S6  no thread triggers before its wait if the body waits first (H5), or never triggers: else a race
    S7  a body that triggers has a trigger in the image: else lost
    S8  no thread ends without a wait if all roles wait (H4): else a race

What is lost makes a program slow; a race makes it wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from forerun.ir.kernel import Kernel, Phase, Trigger, Wait
from forerun.runtime.cuda.codegen.unit import Unit
from forerun.runtime.cuda.sass.addresses import Provenance, parameters_read
from forerun.runtime.cuda.sass.lines import BodyStep, StepLines, body_steps, steps_of_lines
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.instruction import Instruction, is_trigger, is_wait
from forerun.runtime.toolchain.sass_cfg import after, before

__all__ = ["Finding", "PhaseProof", "UnitProof", "prove_unit"]

Severity = Literal["race", "lost"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that the image of a unit breaks.

    Attributes:
        code: ``S1`` to ``S8``.
        severity: ``race``: the program may be wrong; ``lost``: it is right, but slower than meant.
        message: What is wrong, naming the phase.
        phase: The phase; empty if it is about the whole kernel.
        instruction: The first instruction that shows it; empty if one is missing.
    """

    code: str
    severity: Severity
    message: str
    phase: str = ""
    instruction: str = ""

    def __str__(self) -> str:
        return f"{self.code} ({self.severity}): {self.message}"


@dataclass(frozen=True, slots=True)
class PhaseProof:
    """Where the loads of a phase ended up.

    Attributes:
        phase: Its name.
        role: The role that executes it.
        place: Where the body has it: ``before`` or ``after`` the wait, or ``free`` if its role never waits.
        above: How many of its loads from global memory, bulk copies included, no thread executes after a wait.
        below: How many no thread executes before it.
        either: How many are executed on both sides.
        verdict: Of a phase before the wait: ``kept``, ``lost``, or ``none`` if it loads nothing. Of one after it:
            ``kept`` or ``raced``. ``free`` of others.
    """

    phase: str
    role: str
    place: Literal["before", "after", "free"]
    above: int
    below: int
    either: int
    verdict: Literal["kept", "lost", "raced", "none", "free"]


@dataclass(frozen=True, slots=True)
class UnitProof:
    """What the image of a unit does, compared with the body of its kernel.

    Waits and triggers are numbers of those in the body, and in the image; unplaced loads come from no phase.
    """

    kernel: str
    entry: str
    phases: tuple[PhaseProof, ...]
    waits: tuple[int, int]
    triggers: tuple[int, int]
    unplaced: int
    findings: tuple[Finding, ...]

    @property
    def races(self) -> tuple[Finding, ...]:
        """The findings that make a program wrong."""
        return tuple(finding for finding in self.findings if finding.severity == "race")

    @property
    def lost(self) -> tuple[Finding, ...]:
        """The findings that make it slow."""
        return tuple(finding for finding in self.findings if finding.severity == "lost")

    @property
    def hoisted(self) -> tuple[PhaseProof, ...]:
        """The phases before the wait that load something."""
        return tuple(phase for phase in self.phases if phase.place == "before" and phase.verdict != "none")

    @property
    def verdict(self) -> Literal["kept", "lost", "race"]:
        """The worst of the findings."""
        if self.races:
            return "race"
        return "lost" if self.lost else "kept"


def prove_unit(kernel: Kernel, unit: Unit, facts: EntryFacts) -> UnitProof:
    """Compare the image of a unit with the body that it was made from.

    The unit is compiled from CUDA C++; its instructions are disassembled now if they were not before.

    Raises:
        ToolchainMissing: If there is no disassembler.
    """
    image = _Image(kernel, steps_of_lines(kernel, unit), facts, Provenance(facts, unit.slots))
    phases = tuple(image.phase(step) for step in image.steps if isinstance(step.step, Phase))
    unplaced = sum(_loads(i) and image.step_of(index) is None for index, i in enumerate(facts.instructions))
    waits, triggers = (sum(isinstance(s.step, kind) for s in image.steps) for kind in (Wait, Trigger))
    counts = len(image.waits), len(facts.of_kind("trigger"))
    findings = tuple(image.findings())
    return UnitProof(kernel.name, unit.entry, phases, (waits, counts[0]), (triggers, counts[1]), unplaced, findings)


class _Image:
    """A unit's instructions, by the step that they were made for, and on which side of the wait they are."""

    def __init__(self, kernel: Kernel, lines: StepLines, facts: EntryFacts, provenance: Provenance) -> None:
        self.kernel = kernel
        self.lines = lines
        self.provenance = provenance
        self.facts = facts
        self.steps = body_steps(kernel)
        self.code: Sequence[Instruction] = facts.instructions
        self.early = before(self.code, is_wait)
        self.late = after(self.code, is_wait)
        self.waits = facts.of_kind("wait")

    @cached_property
    def made_for(self) -> dict[tuple[str, int], list[int]]:
        """The indices of the instructions of each step."""
        found: dict[tuple[str, int], list[int]] = {}
        for index in range(len(self.code)):
            step = self.step_of(index)
            if step is not None:
                found.setdefault((step.role, step.position), []).append(index)
        return found

    def step_of(self, index: int) -> BodyStep | None:
        """The step that an instruction was made for: by its line, unless it loads what that phase does not read."""
        found = self.lines.step_of(self.code[index])
        if found is None or not isinstance(found.step, Phase) or self.code[index].kind != "load":
            return found
        used = self.provenance.parameters(index)
        if not used or used & parameters_read(found.step):
            return found
        fit = [s for s in self.steps if isinstance(s.step, Phase) and used <= parameters_read(s.step)]
        here = [s for s in fit if s.after_wait == (index not in self.early)]
        return next(iter(here or fit), found)

    def of(self, step: BodyStep) -> list[int]:
        return self.made_for.get((step.role, step.position), [])

    def phase(self, step: BodyStep) -> PhaseProof:
        assert isinstance(step.step, Phase)
        loads = [i for i in self.of(step) if _loads(self.code[i])]
        either = sum(i in self.early and i in self.late for i in loads)
        above = sum(i in self.early and i not in self.late for i in loads)
        below = sum(i in self.late and i not in self.early for i in loads)
        if step.before_wait:
            verdict: Literal["kept", "lost", "raced", "none", "free"] = "lost" if below or either else "kept"
            verdict = verdict if loads else "none"
            return PhaseProof(step.step.name, step.role, "before", above, below, either, verdict)
        if step.after_wait:
            verdict = "raced" if self.moved_up(step) else "kept"
            return PhaseProof(step.step.name, step.role, "after", above, below, either, verdict)
        return PhaseProof(step.step.name, step.role, "free", above, below, either, "free")

    def moved_up(self, step: BodyStep) -> list[int]:
        """Accesses of a step after the wait that some thread executes before one."""
        return [i for i in self.of(step) if i in self.early and (_loads(self.code[i]) or _stores(self.code[i]))]

    def may_be_early(self, index: int) -> bool:
        """Whether a load may belong to a phase before the wait, whatever its line says; never one with ``.nc``."""
        used = self.provenance.parameters(index)
        before = [s.step for s in self.steps if s.before_wait and isinstance(s.step, Phase)]
        ordered = self.code[index].kind == "load" and not self.code[index].constant
        return ordered and bool(used) and any(used <= parameters_read(phase) for phase in before)

    def findings(self) -> Iterator[Finding]:
        yield from self.of_waits()
        for step in self.steps:
            if isinstance(step.step, Phase):
                yield from self.of_phase(step, step.step)
        yield from self.of_unordered_loads()
        yield from self.of_triggers()

    def of_waits(self) -> Iterator[Finding]:
        if not self.kernel.has(Wait):
            return
        if not self.waits:
            yield Finding("S1", "race", "the body waits, but the image has no wait (ACQBULK)")
            return
        leaves = next((self.code[i] for i in sorted(self.early) if self.code[i].kind == "exit"), None)
        everybody = all(any(isinstance(s, Wait) for s in role.steps) for role in self.kernel.roles or ())
        if everybody and leaves is not None:
            yield Finding("S8", "race", "a thread may end without a wait", instruction=_shown(leaves))

    def of_phase(self, step: BodyStep, phase: Phase) -> Iterator[Finding]:
        name = phase.name
        if step.before_wait and self.waits:
            loads = [self.code[i] for i in self.of(step) if _loads(self.code[i]) and i in self.late]
            if loads:
                count = sum(_loads(self.code[i]) for i in self.of(step))
                message = f"phase '{name}' is before the wait, but {len(loads)} of its {count} loads were sunk below it"
                yield Finding("S3", "lost", message, name, _shown(loads[0]))
        if step.after_wait and self.waits:
            moved = self.moved_up(step)
            certain = [index for index in moved if not self.may_be_early(index)]
            if moved:
                shown = _shown(self.code[(certain or moved)[0]])
                message = f"phase '{name}' is after the wait, but the image executes {shown} before it"
                message += "" if certain else ", unless that belongs to a phase before the wait, which reads there, too"
                yield Finding("S2", "race" if certain else "lost", message, name, shown)

    def of_unordered_loads(self) -> Iterator[Finding]:
        for index, instruction in enumerate(self.code):
            if instruction.constant:
                step = self.step_of(index)
                name = step.step.name if step is not None and isinstance(step.step, Phase) else ""
                side = "before" if index in self.early else "after"
                where = f"phase '{name}'" if name else "the entry"
                message = f"{where} loads with .nc, {side} the wait: nothing orders {_shown(instruction)}"
                yield Finding("S4", "lost", message, name, _shown(instruction))
                return  # one says it: there may be hundreds

    def of_triggers(self) -> Iterator[Finding]:
        found, meant = self.facts.of_kind("trigger"), self.kernel.has(Trigger)
        if meant and not found:
            yield Finding("S7", "lost", "the body triggers, but the image has no trigger (PREEXIT)")
        early = [self.code[i] for i in sorted(self.early) if self.code[i].kind == "trigger"]
        waits_first = all(step.after_wait for step in self.steps if isinstance(step.step, Trigger))
        if early and self.kernel.has(Wait) and waits_first:
            what = "the body triggers after its wait" if meant else "the body does not trigger"
            yield Finding("S6", "race", f"{what}, but the image triggers before it", instruction=_shown(early[0]))
        if found:
            yield from self.of_late_stores()

    def of_late_stores(self) -> Iterator[Finding]:
        triggered = after(self.code, is_trigger)
        fenced = any(isinstance(step.step, Trigger) and step.step.fenced for step in self.steps)
        for step in self.steps:
            if not isinstance(step.step, Phase) or not step.before_trigger:
                continue
            late = [self.code[i] for i in self.of(step) if i in triggered and _stores(self.code[i])]
            if late:
                name = step.step.name
                message = f"phase '{name}' is before the trigger, but {_shown(late[0])} was sunk below it"
                yield Finding("S5", "race" if fenced else "lost", message, name, _shown(late[0]))


_BULK_STORES = ("UTMASTG", "UTMAREDG", "UBLKRED")


def _loads(instruction: Instruction) -> bool:
    return instruction.kind == "load" or (instruction.kind == "bulk" and not _stores(instruction))


def _stores(instruction: Instruction) -> bool:
    if instruction.kind == "bulk":
        return instruction.opcode.startswith(_BULK_STORES) or ".G.S" in instruction.opcode
    return instruction.kind == "store"


def _shown(instruction: Instruction) -> str:
    return f"{instruction.text} at {instruction.offset:#06x}"
