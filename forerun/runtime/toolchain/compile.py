"""CUDA C++ to cubins, one unit or many, through the cache."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forerun.ir.diagnostics import Severity
from forerun.runtime.toolchain.cache import Cache, cache_at, cache_folder, key_of
from forerun.runtime.toolchain.elf import constant_bytes, section_sizes
from forerun.runtime.toolchain.facts import EntryFacts, Instruction, Listing
from forerun.runtime.toolchain.locate import Compiler, require_compiler, require_disassembler
from forerun.runtime.toolchain.messages import ptxas_diagnostics
from forerun.runtime.toolchain.nvrtc import STANDARD_OPTIONS, compile_to_ptx
from forerun.runtime.toolchain.ptxas import assemble, resources
from forerun.runtime.toolchain.sass import disassemble, parse_listing
from forerun.runtime.toolchain.unit import Cubin, Source, virtual_arch

__all__ = ["Progress", "compile_unit", "compile_units", "processors"]

Progress = Callable[[int, int], object]
"""Called with how many units are done, and how many there are."""

_FORMAT = "2"
_TEXT = ".text."


def compile_unit(
    source: Source,
    arch: str = "sm_90",
    *,
    options: Sequence[str] = (),
    assembler_options: Sequence[str] = (),
    cache: Cache | None = None,
    fresh: bool = False,
) -> Cubin:
    """Compile one unit, or take it from the cache. Needs no GPU.

    Args:
        source: The unit.
        arch: The architecture of the GPU that will load it.
        options: Options for NVRTC, besides C++17 and line information.
        assembler_options: Options for ptxas.
        cache: Where results are kept; by default in the user's cache folder.
        fresh: Compile it even if the cache has it, and replace what is there.

    Raises:
        CompileError: If the source is refused; the message shows its lines.
        ToolchainMissing: If the tools are not there.
        InvalidInput: If the architecture or an option is unknown.

    Example:
        >>> from forerun.runtime.toolchain import Cache, Source, compile_unit, missing_toolchain
        >>> unit = Source("fill.cu", 'extern "C" __global__ void fill(int* y) { y[threadIdx.x] = 1; }')
        >>> if missing_toolchain() is None:
        ...     cubin = compile_unit(unit, cache=Cache(Path("cache")))
        ...     assert cubin.entries["fill"].registers > 0
    """
    virtual_arch(arch)
    tools = require_compiler()
    cache = cache or cache_at(cache_folder())
    key = _key(source, arch, tuple(options), tuple(assembler_options), tools)
    kept = None if fresh else _restored(cache.get(key), source, arch, cache)
    if kept is not None:
        return kept
    record = _build(source, arch, options, assembler_options, tools)
    cache.put(key, json.dumps(record).encode())
    return _cubin(record, source, arch, cache)


def compile_units(
    sources: Sequence[Source],
    arch: str = "sm_90",
    *,
    options: Sequence[str] = (),
    jobs: int | None = None,
    progress: Progress | None = None,
    cache: Cache | None = None,
    fresh: bool = False,
) -> list[Cubin]:
    """Compile many units at once; equal ones only once.

    Args:
        sources: The units.
        arch: The architecture of the GPU that will load them.
        options: Options for NVRTC.
        jobs: How many at a time; by default as many as there are processors.
        progress: Called after each unit, on the caller's thread.
        cache: Where results are kept.
        fresh: As for :func:`compile_unit`.

    Returns:
        The cubins in the order of the sources.

    Raises:
        CompileError: If a source is refused; the first such in the order of the sources, if several are.
        ToolchainMissing: If the tools are not there.
    """
    distinct = list(dict.fromkeys(sources))
    if not distinct:
        return []
    require_compiler()
    with ThreadPoolExecutor(min(jobs or processors(), len(distinct))) as pool:
        build = functools.partial(compile_unit, arch=arch, options=options, cache=cache, fresh=fresh)
        futures = {source: pool.submit(build, source) for source in distinct}
        try:
            _follow(list(futures.values()), progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [futures[source].result() for source in sources]


def _follow(futures: Sequence[Future[Cubin]], progress: Progress | None) -> None:
    """Wait for all; if one fails, drop those that have not begun, and raise the first failure in their order."""
    for done, future in enumerate(as_completed(futures), 1):
        if future.exception() is not None:
            break
        if progress is not None:
            progress(done, len(futures))
    else:
        return
    # They are begun in their order, so whatever comes before a failure has begun and will end.
    for future in futures:
        future.result()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Building


def _build(
    source: Source, arch: str, options: Sequence[str], assembler_options: Sequence[str], tools: Compiler
) -> dict[str, Any]:
    """What the cache keeps of a unit."""
    include = tools.include if source.foreign_includes else ()
    ptx, warnings = compile_to_ptx(source, arch, options, include)
    code, log = assemble(ptx, source, arch, tools.ptxas.path, assembler_options)
    found = ptxas_diagnostics(log, ptx, source.name, source.texts)
    words = [warnings, *(str(d) for d in found if d.severity is Severity.WARNING)]
    return {
        "ptx": ptx,
        "code": base64.b64encode(code).decode(),
        "log": "\n".join(word for word in words if word),
        "entries": _entries(code, log),
    }


def _entries(code: bytes, log: str) -> dict[str, dict[str, int]]:
    sizes = section_sizes(code)
    return {
        name: {**asdict(found), "constant_bytes": constant_bytes(sizes, name)} for name, found in resources(log).items()
    }


def _key(
    source: Source, arch: str, options: tuple[str, ...], assembler_options: tuple[str, ...], tools: Compiler
) -> str:
    texts = [source.name, source.text, repr(sorted(source.headers)), arch, repr((STANDARD_OPTIONS, options))]
    identities = [tools.nvrtc.identity, tools.ptxas.identity]
    foreign = _digest_of_headers(tools.include) if source.foreign_includes else ""
    return key_of("cubin", _FORMAT, *texts, repr(assembler_options), *identities, foreign)


@functools.lru_cache(maxsize=8)
def _digest_of_headers(folders: tuple[Path, ...]) -> str:
    """Of all of CUDA's headers, with their names: any of them may be included by another."""
    digest = hashlib.sha256()
    apart = [f for f in folders if not any(f != other and f.is_relative_to(other) for other in folders)]
    for folder in apart:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            digest.update(b"%s\0%d\0" % (str(path.relative_to(folder)).encode(errors="surrogateescape"), len(data)))
            digest.update(data)
    return digest.hexdigest()


# Reading


def _restored(data: bytes | None, source: Source, arch: str, cache: Cache) -> Cubin | None:
    """What the cache has; ``None`` if it has nothing, or something that is no cubin: then it is to be made again."""
    if data is None:
        return None
    try:
        cubin = _cubin(json.loads(data), source, arch, cache)
        named = {name.removeprefix(_TEXT) for name in section_sizes(cubin.code) if name.startswith(_TEXT)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    is_whole = isinstance(cubin.ptx, str) and isinstance(cubin.log, str) and cubin.entries.keys() <= named
    return cubin if is_whole else None


def _cubin(record: Mapping[str, Any], source: Source, arch: str, cache: Cache) -> Cubin:
    code = base64.b64decode(record["code"], validate=True)
    image = _Image(code, tuple(source.texts), cache)
    entries = {
        name: EntryFacts(**numbers, instructions=Listing(functools.partial(image.instructions, name)))
        for name, numbers in record["entries"].items()
    }
    return Cubin(code, record["ptx"], arch, record["log"], entries)


class _Image:
    """A cubin that is disassembled at most once, and not at all if the cache has its listing."""

    def __init__(self, code: bytes, names: Sequence[str], cache: Cache) -> None:
        self._code = code
        self._names = names
        self._cache = cache
        self._lock = threading.Lock()

    def instructions(self, entry: str) -> tuple[Instruction, ...]:
        with self._lock:
            return self._all[entry]

    @functools.cached_property
    def _all(self) -> Mapping[str, tuple[Instruction, ...]]:
        tool = require_disassembler()
        key = key_of("sass", _FORMAT, self._code, tool.identity)
        listing = self._listing(self._cache.get(key))
        if listing is not None:
            return listing
        text = disassemble(self._code, tool.path)
        self._cache.put(key, text.encode())
        return parse_listing(text, self._names)

    def _listing(self, kept: bytes | None) -> Mapping[str, tuple[Instruction, ...]] | None:
        """What the cache has; ``None`` if it has nothing, or not the instructions of every kernel."""
        if kept is None:
            return None
        listing = parse_listing(kept.decode(errors="replace"), self._names)
        wanted = (name.removeprefix(_TEXT) for name in section_sizes(self._code) if name.startswith(_TEXT))
        return listing if all(listing.get(name) for name in wanted) else None
