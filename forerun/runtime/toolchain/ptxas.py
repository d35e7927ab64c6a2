"""PTX to a cubin: ptxas, which also tells registers, memory and spills."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from forerun.runtime.toolchain.errors import CompileError, ToolchainMissing
from forerun.runtime.toolchain.messages import ptxas_diagnostics
from forerun.runtime.toolchain.unit import Source
from forerun.support.diagnostics import Severity

__all__ = ["assemble", "resources"]

_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_NUMBERS = {
    "registers": re.compile(r"Used (\d+) registers"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spill_store_bytes": re.compile(r"(\d+) bytes spill stores"),
    "spill_load_bytes": re.compile(r"(\d+) bytes spill loads"),
}


def assemble(ptx: str, source: Source, arch: str, tool: Path, options: Sequence[str]) -> tuple[bytes, str]:
    """The cubin of a unit, and all that ptxas says; the unit itself is for messages.

    Raises:
        CompileError: If ptxas refuses the PTX.
        ToolchainMissing: If ptxas cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="forerun-") as folder:
        read, written = Path(folder, "unit.ptx"), Path(folder, "unit.cubin")
        read.write_text(ptx, encoding="utf-8")
        flags = (f"--gpu-name={arch}", "--verbose", "--generate-line-info")
        line: list[str | Path] = [tool, *flags, *options, read, "-o", written]
        try:
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise ToolchainMissing(f"cannot run {tool}: {error.strerror or error}") from error
        log = (done.stdout + done.stderr).replace(str(read), f"{source.name}.ptx")
        if done.returncode != 0:
            raise _refusal(ptx, source, log)
        return written.read_bytes(), log


def resources(log: str) -> Mapping[str, dict[str, int]]:
    r"""What the log of ``ptxas --verbose`` says of each entry: numbers by the names of ``EntryFacts``.

    Example:
        >>> log = "ptxas info : Compiling entry function 'k' for 'sm_90'\nptxas info : Used 12 registers"
        >>> resources(log)["k"]["registers"]
        12
    """
    _, *pieces = _ENTRY.split(log)
    return {name: _numbers(text) for name, text in zip(pieces[::2], pieces[1::2], strict=True)}


def _numbers(text: str) -> dict[str, int]:
    # Device functions that were not inlined follow with words of their own.
    used = _NUMBERS["registers"].search(text)
    own = text[: text.find("\n", used.end())] if used and "\n" in text[used.end() :] else text
    matches = {name: pattern.search(own) for name, pattern in _NUMBERS.items()}
    return {name: 0 if match is None else int(match[1]) for name, match in matches.items()}


def _refusal(ptx: str, source: Source, log: str) -> Exception:
    texts = {**source.texts, f"{source.name}.ptx": ptx}
    found = ptxas_diagnostics(log, ptx, source.name, texts, worst=Severity.ERROR)
    # The last word is always that it gave up.
    errors = [d for d in found if "aborted due to errors" not in d.message]
    if errors:
        return CompileError(source.name, errors, texts, log)
    return ToolchainMissing(f"ptxas fails on {source.name}", hint=log.strip())
