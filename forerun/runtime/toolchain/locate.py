"""Where the tools are: in the wheels of ``pip install 'forerun[cuda]'`` first, then in a CUDA toolkit."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forerun.runtime.toolchain.errors import ToolchainMissing

__all__ = [
    "INSTALL",
    "Compiler",
    "Tool",
    "Toolchain",
    "Version",
    "find_toolchain",
    "missing_toolchain",
    "require_compiler",
    "require_disassembler",
]

Version = tuple[int, int]
"""A release of CUDA, ``(13, 0)`` for instance."""

INSTALL = "pip install 'forerun[cuda]'"
"""What brings the tools."""

_RELEASE = re.compile(r"release (\d+)\.(\d+)")
_PATH_VARIABLES = ("CUDA_HOME", "CUDA_PATH")
_USUAL_ROOT = Path("/usr/local/cuda")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, the release of CUDA that it belongs to, and what tells builds apart, for the keys of the cache."""

    path: Path
    version: Version
    identity: str


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The tools that were found; ``None`` for what was not.

    Attributes:
        nvrtc: Compiles CUDA C++ to PTX.
        ptxas: Assembles PTX.
        nvdisasm: Disassembles cubins. Needed for looking at instructions only.
        include: Folders of CUDA's own headers; empty if there are none.
        nvrtc_failure: Why there is no NVRTC.
    """

    nvrtc: Tool | None
    ptxas: Tool | None
    nvdisasm: Tool | None
    include: tuple[Path, ...] = ()
    nvrtc_failure: str = ""


@dataclass(frozen=True, slots=True)
class Compiler:
    """The tools that compile, all there: fields as in :class:`Toolchain`."""

    nvrtc: Tool
    ptxas: Tool
    include: tuple[Path, ...]


def find_toolchain() -> Toolchain:
    """What there is on this machine; asked once for each setting of ``PATH``, ``CUDA_HOME`` and ``CUDA_PATH``."""
    return _find(os.environ.get("PATH", ""), *(os.environ.get(name, "") for name in _PATH_VARIABLES))


def require_compiler() -> Compiler:
    """What compiles.

    Raises:
        ToolchainMissing: If a tool is missing, or does not fit to the others.
    """
    found, problem = find_toolchain(), missing_toolchain(inspect=False)
    if problem is not None or found.nvrtc is None or found.ptxas is None:
        raise ToolchainMissing(f"cannot compile CUDA C++: {problem}")
    return Compiler(found.nvrtc, found.ptxas, found.include)


def require_disassembler() -> Tool:
    """What disassembles.

    Raises:
        ToolchainMissing: If it is missing, or older than what compiles.
    """
    found, problem = find_toolchain(), missing_toolchain()
    if problem is not None or found.nvdisasm is None:
        raise ToolchainMissing(f"cannot look at machine instructions: {problem}")
    return found.nvdisasm


def missing_toolchain(*, inspect: bool = True, driver: Version | None = None) -> str | None:
    """What is missing or does not fit, and what to do; ``None`` if CUDA C++ can be compiled.

    Args:
        inspect: Whether instructions will be looked at, which takes nvdisasm.
        driver: The CUDA release of the driver that will load the cubins, if there is one.
    """
    problems = list(_problems(find_toolchain(), inspect, driver))
    return f"{'; '.join(problems)}; {INSTALL} brings what fits" if problems else None


def _problems(found: Toolchain, inspect: bool, driver: Version | None) -> Iterator[str]:
    nvrtc, ptxas, nvdisasm = found.nvrtc, found.ptxas, found.nvdisasm
    if nvrtc is None:
        yield f"no NVRTC ({found.nvrtc_failure})"
    if ptxas is None:
        yield "no ptxas"
    if nvdisasm is None and inspect:
        yield "no nvdisasm"
    if nvrtc and ptxas and ptxas.version < nvrtc.version:
        yield f"ptxas {_spelled(ptxas)} cannot read the PTX of NVRTC {_spelled(nvrtc)}"
    if nvdisasm and ptxas and inspect and nvdisasm.version < ptxas.version:
        yield f"nvdisasm {_spelled(nvdisasm)} cannot read the cubins of ptxas {_spelled(ptxas)}"
    # Within one major release, drivers load the cubins of newer toolkits; PTX they would refuse, but none is loaded.
    if ptxas and driver and ptxas.version[0] > driver[0]:
        yield f"the driver is of CUDA {driver[0]}.{driver[1]} and does not load the cubins of ptxas {_spelled(ptxas)}"


def _spelled(tool: Tool) -> str:
    return f"{tool.version[0]}.{tool.version[1]}"


@functools.lru_cache(maxsize=8)
def _find(path: str, *homes: str) -> Toolchain:
    # What stands for the current folder (an empty entry, a relative one) names nothing: whoever unpacks an archive and
    # works there must not run its ptxas.
    path = os.pathsep.join(filter(os.path.isabs, path.split(os.pathsep)))
    homes = tuple(filter(os.path.isabs, homes))
    nvrtc, failure = _find_nvrtc()
    roots = [*_wheel_roots(), *_toolkit_roots(path, homes)]
    folders = [str(root / "bin") for root in roots] + [path]
    ptxas = _find_tool("ptxas", folders, nvrtc.version if nvrtc else (0, 0))
    nvdisasm = _find_tool("nvdisasm", folders, ptxas.version if ptxas else (0, 0))
    return Toolchain(nvrtc, ptxas, nvdisasm, _include(roots), failure)


def _wheel_roots() -> list[Path]:
    """The folders of NVIDIA's wheels: one for all (``nvidia/cu13``), or one for each (``nvidia/cuda_nvcc``)."""
    spec = importlib.util.find_spec("nvidia")
    places = spec.submodule_search_locations if spec else None
    folders = (Path(place) for place in places or () if _is_installed(Path(place)))
    found = (child for folder in folders for child in sorted(folder.iterdir()) if child.is_dir())
    return sorted(found, key=lambda folder: not re.fullmatch(r"cu\d+", folder.name))


def _is_installed(folder: Path) -> bool:
    """Whether a package's folder is one, and not merely in the current folder, which may be on Python's path."""
    if not folder.is_dir():
        return False
    parent = folder.resolve().parent
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return parent in installed or parent != Path(os.path.realpath("."))


def _toolkit_roots(path: str, homes: tuple[str, ...]) -> list[Path]:
    nvcc = shutil.which("nvcc", path=path)
    beside = [Path(nvcc).resolve().parents[1]] if nvcc else []
    return [*(Path(home) for home in homes if home), *beside, _USUAL_ROOT]


def _include(roots: list[Path]) -> tuple[Path, ...]:
    folder = next((root / "include" for root in roots if (root / "include" / "cuda_fp16.h").is_file()), None)
    if folder is None:
        return ()
    return tuple(place for place in (folder, folder / "cccl") if place.is_dir())


def _find_tool(name: str, folders: list[str], at_least: Version) -> Tool | None:
    """The first that is new enough; if none is, the first."""
    paths = dict.fromkeys(found for folder in folders if (found := shutil.which(name, path=folder)))
    tools = [tool for tool in map(_ask, map(Path, paths)) if tool is not None]
    return next((tool for tool in tools if tool.version >= at_least), tools[0] if tools else None)


def _ask(path: Path) -> Tool | None:
    """A tool's version; ``None`` if it does not run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    match = _RELEASE.search(done.stdout)
    digest = hashlib.sha256(done.stdout.encode()).hexdigest()
    return Tool(path, (int(match[1]), int(match[2])), digest) if match else None


def _find_nvrtc() -> tuple[Tool | None, str]:
    """NVRTC, or why there is none."""
    try:
        from cuda.bindings import nvrtc
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError as error:
        return None, f"cuda-bindings is not installed: {error}"
    try:
        library = Path(str(load_nvidia_dynamic_lib("nvrtc").abs_path))
        result, major, minor = nvrtc.nvrtcVersion()
        state = library.stat()
    except (RuntimeError, OSError) as error:  # what the bindings raise when there is no library
        return None, str(error).partition(": ")[0]
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        return None, f"it says {result.name}"
    # The version has no patch level, so the files themselves tell builds apart: the library, and its own headers.
    beside = sorted(library.parent.glob("*nvrtc-builtins*"))
    states = [state, *(path.stat() for path in beside if path.is_file())]
    identity = " ".join(f"{found.st_size} {found.st_mtime_ns}" for found in states)
    return Tool(library, (major, minor), f"{major}.{minor} {identity}"), ""
