"""CUDA C++ to cubins, one unit or many, through the cache."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.toolchain.cache import Cache, cache_at, key_of
from forerun.runtime.toolchain.locate import Compiler, require_compiler
from forerun.runtime.toolchain.messages import ptxas_diagnostics
from forerun.runtime.toolchain.nvrtc import STANDARD_OPTIONS, compile_to_ptx
from forerun.runtime.toolchain.ptxas import assemble
from forerun.runtime.toolchain.record import FORMAT, Record, record_of
from forerun.runtime.toolchain.unit import Cubin, Source, virtual_arch
from forerun.support.diagnostics import Severity

__all__ = ["Progress", "compile_unit", "compile_units", "processors"]

Progress = Callable[[int, int], object]
"""Called with how many units are done, and how many there are."""


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
        arch: The architecture of the GPU that will load it. A source that asks for ``__CUDA_ARCH_FEAT_SM90_ALL`` is
            compiled for ``sm_90a`` instead of ``sm_90``.
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
    arch = _with_own_features(source, arch)
    tools = require_compiler()
    cache = cache or cache_at(cache_folder() / "toolchain")
    key = _key(source, arch, tuple(options), tuple(assembler_options), tools)
    kept = None if fresh else cache.get(key)
    record = None if kept is None else Record.read(kept, arch)
    if record is None:
        record = _build(source, arch, options, assembler_options, tools)
        cache.put(key, record.written())
    return record.cubin(source, arch, cache)


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

_FEATURES_OF_SM_90A = "__CUDA_ARCH_FEAT_SM90_ALL"


def _with_own_features(source: Source, arch: str) -> str:
    """``sm_90a`` for ``sm_90`` if a text asks whether it has that: it runs on the same GPUs."""
    asks = arch == "sm_90" and any(_FEATURES_OF_SM_90A in text for text in source.texts.values())
    return "sm_90a" if asks else arch


def _build(
    source: Source, arch: str, options: Sequence[str], assembler_options: Sequence[str], tools: Compiler
) -> Record:
    include = tools.include if source.foreign_includes else ()
    ptx, warnings = compile_to_ptx(source, arch, options, include)
    code, log = assemble(ptx, source, arch, tools.ptxas.path, assembler_options)
    found = ptxas_diagnostics(log, ptx, source.name, source.texts)
    words = [warnings, *(str(d) for d in found if d.severity is Severity.WARNING)]
    return record_of(ptx, code, "\n".join(word for word in words if word), log)


def _key(
    source: Source, arch: str, options: tuple[str, ...], assembler_options: tuple[str, ...], tools: Compiler
) -> str:
    texts = [source.name, source.text, repr(sorted(source.headers)), arch, repr((STANDARD_OPTIONS, options))]
    identities = [tools.nvrtc.identity, tools.ptxas.identity]
    foreign = _digest_of_headers(tools.include) if source.foreign_includes else ""
    return key_of("cubin", FORMAT, *texts, repr(assembler_options), *identities, foreign)


@functools.lru_cache(maxsize=8)
def _digest_of_headers(folders: tuple[Path, ...]) -> str:
    """A digest of all of CUDA's headers, with their names: any of them may be included by another."""
    digest = hashlib.sha256()
    apart = [f for f in folders if not any(f != other and f.is_relative_to(other) for other in folders)]
    for folder in apart:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            digest.update(b"%s\0%d\0" % (str(path.relative_to(folder)).encode(errors="surrogateescape"), len(data)))
            digest.update(data)
    return digest.hexdigest()
