"""CUDA C++ to PTX: NVRTC, through ``cuda.bindings``. Needs no driver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forerun.runtime.toolchain.errors import CompileError, ToolchainMissing
from forerun.runtime.toolchain.includes import refused_definitions, refused_includes
from forerun.runtime.toolchain.messages import nvrtc_diagnostics, without_other_files
from forerun.runtime.toolchain.unit import Source, own_name, virtual_arch
from forerun.support.diagnostics import InvalidInput, Severity

__all__ = ["STANDARD_OPTIONS", "compile_to_ptx"]

STANDARD_OPTIONS = ("--std=c++17", "-lineinfo", "--no-source-include")
"""What every unit is compiled with, besides its own options."""

_REMARK = 'Remark: The warnings can be suppressed with "-diag-suppress <warning-number>"'
_FILE_DIRECTIVE = re.compile(r'^(\s*\.file\s+\d+\s+")([^"]*)(".*)$', re.MULTILINE)


def compile_to_ptx(source: Source, arch: str, options: Sequence[str], include: Sequence[Path]) -> tuple[str, str]:
    """The PTX of a unit, and NVRTC's warnings. The interpreter's lock is released meanwhile.

    ``include`` are the folders of headers that the unit does not bring itself.

    Raises:
        CompileError: If the source is refused.
        InvalidInput: If NVRTC does not know the architecture or an option.
    """
    from cuda.bindings import nvrtc

    refused = refused_includes(source.texts, frozenset(name for name, _ in source.headers))
    refused += refused_definitions(source.texts, source.foreign_includes, include)
    if refused:
        hint = "give what it includes along with it, in Source.headers or beside the kernel's source"
        raise CompileError(source.name, refused, source.texts, log="", hint=hint)
    program = _checked(nvrtc, _created(nvrtc, source))
    try:
        line = [f"--gpu-architecture={virtual_arch(arch)}", *STANDARD_OPTIONS, *options]
        line += [f"--include-path={folder}" for folder in include]
        (result,) = nvrtc.nvrtcCompileProgram(program, len(line), [option.encode() for option in line])
        log = without_other_files(_text(nvrtc, program, "ProgramLog"), source.texts, include)
        _require_success(nvrtc, result, source, log, line)
        return _with_own_names(_text(nvrtc, program, "PTX"), source), log.replace(_REMARK, "").strip()
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _created(nvrtc: Any, source: Source) -> Any:
    names = [name.encode() for name, _ in source.headers]
    texts = [text.encode() for _, text in source.headers]
    return nvrtc.nvrtcCreateProgram(source.text.encode(), source.name.encode(), len(names), texts, names)


def _require_success(nvrtc: Any, result: Any, source: Source, log: str, line: Sequence[str]) -> None:
    results = nvrtc.nvrtcResult
    if result == results.NVRTC_SUCCESS:
        return
    if result == results.NVRTC_ERROR_INVALID_OPTION:
        raise InvalidInput(f"NVRTC refuses an option: {log.strip()}", hint=f"it was given {' '.join(line)}")
    errors = [d for d in nvrtc_diagnostics(log, source.texts) if d.severity is Severity.ERROR]
    if errors:
        raise CompileError(source.name, errors, source.texts, log)
    raise ToolchainMissing(f"NVRTC fails on {source.name}: {result.name}", hint=log.strip())


def _text(nvrtc: Any, program: Any, what: str) -> str:
    size = _checked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program))
    # The bindings write into the bytes object. One of length 0 or 1 would be Python's only one: then all b" " change.
    buffer = b" " * (size + 2)
    _checked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return str(buffer, "utf-8", "replace").rstrip("\0\n ")


def _checked(nvrtc: Any, returned: tuple[Any, ...]) -> Any:
    result, *values = returned
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise ToolchainMissing(f"NVRTC fails: {result.name}")
    return values[0] if values else None


def _with_own_names(ptx: str, source: Source) -> str:
    """The PTX without the working folder, which NVRTC puts before the names: equal sources give equal PTX."""
    return _FILE_DIRECTIVE.sub(lambda match: f"{match[1]}{own_name(match[2], source.texts)}{match[3]}", ptx + "\n")
