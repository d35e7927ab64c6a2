"""The reference target: NumPy, serial order or adversarial schedules. See docs/reference-runtime.md."""

from forerun.runtime.reference.schedule import Action, Schedule
from forerun.runtime.reference.target import ReferenceProgram, ReferenceTarget

__all__ = ["Action", "ReferenceProgram", "ReferenceTarget", "Schedule"]
