"""PTX as a second level of the IR: text, control flow, divergence, addresses, accesses. See docs/ptx.md.

All names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.support.lazy import lazy_exports

if TYPE_CHECKING:
    from forerun.ptx.accesses import Access, AccessSummary, summarise
    from forerun.ptx.cfg import ControlFlow, control_flow
    from forerun.ptx.parser import parse_module
    from forerun.ptx.printer import print_module
    from forerun.ptx.syntax import Function, Instruction, Module

__all__ = [
    "Access",
    "AccessSummary",
    "ControlFlow",
    "Function",
    "Instruction",
    "Module",
    "control_flow",
    "parse_module",
    "print_module",
    "summarise",
]

_LAZY = {
    "Access": "forerun.ptx.accesses",
    "AccessSummary": "forerun.ptx.accesses",
    "ControlFlow": "forerun.ptx.cfg",
    "Function": "forerun.ptx.syntax",
    "Instruction": "forerun.ptx.syntax",
    "Module": "forerun.ptx.syntax",
    "control_flow": "forerun.ptx.cfg",
    "parse_module": "forerun.ptx.parser",
    "print_module": "forerun.ptx.printer",
    "summarise": "forerun.ptx.accesses",
}

__getattr__ = lazy_exports(__name__, _LAZY)
