"""Texts count only if they assemble to the code that is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.cuda.capture.texts import FoundText
from forerun.runtime.toolchain.cache import cache_at, key_of
from forerun.runtime.toolchain.compile import processors
from forerun.runtime.toolchain.elf import sections
from forerun.runtime.toolchain.locate import find_toolchain

__all__ = ["assemble_as", "program_identity", "same_code", "verified_texts"]

_BETWEEN = b"\0--- log ---\0"
"""Between a cubin and what the assembler said, in the cache."""

_MORE_OPTIONS: tuple[tuple[str, ...], ...] = ((), ("--regAllocOptLevel=2",))
"""What releases of Triton give ptxas besides (3.9 does, 3.6 does not)."""

_BY_CHANCE, _TRIES = "tcgen05", 12
"""ptxas (12.9 and 13.0) makes one of two codes of kernels with these opcodes, by where its own memory lies.

At fixed addresses it always makes the same. 36 tries with three kernels made one code 23 times, and the other 13 times.
"""


def verified_texts(found: Mapping[str, FoundText], images: Mapping[str, bytes]) -> Mapping[str, FoundText]:
    """Those of the texts that their assembler turns into the code of the image again, by the image's digest."""

    def verified(digest: str) -> FoundText | None:
        text = found[digest]
        for assembler, more in product(_assemblers(text.assembler), _MORE_OPTIONS):
            options = (*text.text.options, *more)
            tries = _TRIES if _BY_CHANCE in text.text.text else 1
            codes = (assemble_as(text.text.text, options, assembler, text.architecture, n)[0] for n in range(tries))
            if any(same_code(code, images[digest]) for code in codes):
                version = text.text.assembler if assembler == text.assembler else ""
                own = replace(text.text, options=options, assembler=version)
                return replace(text, text=own, assembler=assembler)
        return None

    with ThreadPoolExecutor(processors()) as workers:
        made = dict(zip(found, workers.map(verified, found), strict=True))
    return {digest: text for digest, text in made.items() if text is not None}


def _assemblers(first: str) -> list[str]:
    """The assemblers that may have made an image: the one that is thought of first, and others that are here.

    Inductor compiles in processes of its own, for which it may choose another one than Triton does.
    """
    torch, known = sys.modules.get("torch"), find_toolchain().ptxas
    others = [os.environ.get("TRITON_PTXAS_PATH", ""), "" if known is None else str(known.path)]
    place = None if torch is None else torch.__file__
    others += [] if place is None else [str(Path(place).parent / "bin" / "ptxas")]
    return [path for path in dict.fromkeys((first, *others)) if Path(path).is_file()]


def assemble_as(
    text: str, options: Sequence[str], assembler: str, architecture: str, attempt: int = 0
) -> tuple[bytes, str]:
    """The cubin that an assembler makes, and what it says; an empty one if it refuses the text.

    Cubins are kept in the user's cache folder, those of each attempt.
    """
    cache = cache_at(cache_folder() / "toolchain")
    again = [f"attempt {attempt}"] if attempt else []
    key = key_of("cubin", text, *options, architecture, program_identity(assembler), *again)
    kept = cache.get(key)
    if kept is not None:
        code, _, log = kept.partition(_BETWEEN)
        return code, log.decode(errors="replace")
    code, said = _assembled(text, options, assembler, architecture)
    if code:
        cache.put(key, code + _BETWEEN + said.encode())
    return code, said


def program_identity(path: str) -> str:
    """What tells one program from another that takes its place."""
    try:
        state = os.stat(path)
    except OSError:
        return path
    return f"{path} {state.st_size} {state.st_mtime_ns}"


def _assembled(text: str, options: Sequence[str], assembler: str, architecture: str) -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory(prefix="forerun-") as folder:
        read, written = Path(folder, "unit.ptx"), Path(folder, "unit.cubin")
        read.write_text(text, encoding="utf-8")
        line = [assembler, *options, "-v", f"--gpu-name={architecture}", str(read), "-o", str(written)]
        try:
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            return b"", f"cannot run {assembler}: {error.strerror or error}"
        return (written.read_bytes() if done.returncode == 0 else b""), done.stdout + done.stderr


def same_code(first: bytes, second: bytes) -> bool:
    """Whether two cubins have the same machine code and constants, by the names of their sections."""
    try:
        found = [_code(cubin) for cubin in (first, second)]
    except ValueError:
        return False
    return bool(found[0]) and found[0] == found[1]


def _code(cubin: bytes) -> dict[str, bytes]:
    wanted = (".text.", ".nv.constant", ".nv.global")
    return {name: data for name, data in sections(cubin).items() if name.startswith(wanted)}
