"""Where a program runs: targets, and the reference target that needs no GPU."""

from forerun.runtime.base import Program, Target, register_target, resolve_target, target_names

__all__ = ["Program", "Target", "register_target", "resolve_target", "target_names"]
