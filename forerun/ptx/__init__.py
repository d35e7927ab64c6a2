"""PTX as a second level of the IR: text, control flow, divergence, addresses, accesses. See docs/ptx.md.

All names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.support.lazy import lazy_exports

if TYPE_CHECKING:
    from forerun.ptx.parser import parse_module
    from forerun.ptx.printer import print_module
    from forerun.ptx.syntax import Function, Instruction, Module

__all__ = ["Function", "Instruction", "Module", "parse_module", "print_module"]

_LAZY = {
    "Function": "forerun.ptx.syntax",
    "Instruction": "forerun.ptx.syntax",
    "Module": "forerun.ptx.syntax",
    "parse_module": "forerun.ptx.parser",
    "print_module": "forerun.ptx.printer",
}

__getattr__ = lazy_exports(__name__, _LAZY)
