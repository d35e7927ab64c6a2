"""The system's C++ compiler, and shared libraries that it made, kept by what they were made of."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path

from forerun.runtime.cache_folder import cache_folder
from forerun.support.diagnostics import InternalError

__all__ = ["OPTIONS", "compiler", "library"]

OPTIONS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-shared",
    "-fPIC",
    "-pthread",
    "-w",
)

_NAMES = ("c++", "g++", "clang++")


@cache
def compiler() -> str | None:
    """The path of a C++ compiler; ``None`` if there is none, or the system is not POSIX."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None) if os.name == "posix" else None


@cache
def library(text: str) -> ctypes.CDLL | None:
    """The library that C++ text becomes; ``None`` if there is no compiler.

    Raises:
        InternalError: If the compiler refuses the text.
    """
    found = compiler()
    if found is None:
        return None
    header = resources.files("forerun.runtime.native").joinpath("host.h").read_text("utf-8")
    named = (found, _version(found), _processor(), *OPTIONS, header, text)
    key = sha256("\0".join(named).encode()).hexdigest()[:32]
    folder = cache_folder() / "native"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder / f"{key}.so"
    if not made.exists() or not _is_ours(made):
        _compile(found, header, text, made)
    return ctypes.CDLL(str(made))


def _compile(found: str, header: str, text: str, made: Path) -> None:
    with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
        source, result = Path(scratch) / "unit.cpp", Path(scratch) / "unit.so"
        source.write_text(text, "utf-8")
        (Path(scratch) / "host.h").write_text(header, "utf-8")
        command = [found, *OPTIONS, str(source), "-o", str(result)]
        done = subprocess.run(
            command, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
        if done.returncode:
            raise InternalError(f"{found} refuses the code of a kernel of the host: {done.stderr[:2000]}")
        result.replace(made)


def _is_ours(path: Path) -> bool:
    """Whether nobody else could have written a file: code is not run otherwise."""
    return all(entry.stat().st_uid == os.getuid() and not entry.stat().st_mode & 0o022 for entry in (path, path.parent))


@cache
def _version(found: str) -> str:
    return subprocess.run([found, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout


@cache
def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")
