"""Which step of a kernel's body a machine instruction was made for: by the line of the entry that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forerun.ir.kernel import Kernel, Step, Trigger, Wait
from forerun.runtime.cuda.codegen.body import phase_names, statement
from forerun.runtime.cuda.codegen.unit import Unit
from forerun.runtime.toolchain import Instruction, Source
from forerun.support.diagnostics import InternalError

__all__ = ["BodyStep", "StepLines", "body_steps", "steps_of_lines"]


@dataclass(frozen=True, slots=True)
class BodyStep:
    """A step of a role.

    ``after_wait`` says that the role waits earlier; ``before_wait`` and ``before_trigger``, that it waits or triggers
    later, and not earlier.
    """

    role: str
    position: int
    step: Step
    after_wait: bool
    before_wait: bool
    before_trigger: bool


def body_steps(kernel: Kernel) -> tuple[BodyStep, ...]:
    """The steps of all roles, in the order in which the entry has them."""
    found = []
    for role, position, step in kernel.steps():
        earlier, later = set(map(type, role.steps[:position])), set(map(type, role.steps[position + 1 :]))
        waits_later, triggers_later = (kind in later - earlier for kind in (Wait, Trigger))
        found.append(BodyStep(role.name, position, step, Wait in earlier, waits_later, triggers_later))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class StepLines:
    """Where the steps stand in the text of a unit: its name, and the steps by line, from 1."""

    file: str
    steps: Mapping[int, BodyStep]

    def step_of(self, instruction: Instruction) -> BodyStep | None:
        """The step that an instruction was made for; ``None`` for what stands around the steps."""
        # The entry's own line is the outermost of the chain.
        for file, line in reversed(instruction.source):
            if file == self.file and line in self.steps:
                return self.steps[line]
        return None


def steps_of_lines(kernel: Kernel, unit: Unit) -> StepLines:
    """Find the lines of a unit's entry that execute the steps of its kernel's body.

    Raises:
        InternalError: If a step has no line.
    """
    assert isinstance(unit.source, Source)
    lines = unit.source.text.splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith(f"{unit.entry}(")), 0)
    names = phase_names(kernel)
    found: dict[int, BodyStep] = {}
    for step in body_steps(kernel):
        at = _next(lines, at, statement(step.step, names, ""))
        if at == len(lines):
            what = f"role '{step.role}', step {step.position + 1}"
            raise InternalError(f"unit '{unit.entry}' of kernel '{kernel.name}' has no line for {what}")
        found[at + 1] = step
        at += 1
    return StepLines(unit.source.name, found)


def _next(lines: Sequence[str], at: int, text: str) -> int:
    """The next line that is a statement; of a phase's, the namespace in front is not known."""
    is_it = str.endswith if text.startswith("::") else str.__eq__
    return next((i for i in range(at, len(lines)) if is_it(lines[i].strip(), text)), len(lines))
