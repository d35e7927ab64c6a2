"""Writing files whole or not at all: the functions of :mod:`forerun.ir.files`, under the name that instruments use."""

from __future__ import annotations

from forerun.ir.files import require_writable_folder, write_whole

__all__ = ["require_writable_folder", "write_whole"]
