"""Machine code of other people's kernels, in benchmarks: how long it takes to read, and what printed PTX becomes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

__all__ = ["disassembling", "sass_identity"]


@contextmanager
def disassembling() -> Iterator[Callable[[], float]]:
    """Tells for how many seconds of the block one disassembler at least was running."""
    from forerun.runtime.toolchain import image

    own, spans = image.disassemble, list[tuple[float, float]]()

    def noted(*arguments: Any) -> str:
        begin = time.perf_counter()
        try:
            return own(*arguments)
        finally:
            spans.append((begin, time.perf_counter()))

    def seconds() -> float:
        total = last = 0.0
        for begin, end in sorted(spans):
            total += max(0.0, end - max(begin, last))
            last = max(last, end)
        return total

    image.disassemble = noted
    try:
        yield seconds
    finally:
        image.disassemble = own


def sass_identity(texts: Mapping[str, tuple[str, tuple[str, ...], str, str]]) -> dict[str, int]:
    """For how many texts ptxas makes the same code from what the PTX room prints, comments left out.

    Args:
        texts: By any name: PTX, options, path of the assembler, architecture.
    """
    from forerun.ptx import parse_module, print_module, summarise
    from forerun.runtime.cuda.capture.verified import assemble_as, same_code
    from forerun.runtime.toolchain.locate import find_toolchain

    known = find_toolchain().ptxas
    other = str(known.path) if known is not None else ""

    def judged(name: str) -> tuple[bool, bool, bool, str]:
        text, options, assembler, architecture = texts[name]
        try:
            module = parse_module(text)
            exact = print_module(module) == text
            is_summarised = all(summarise(entry).name for entry in module.entries)
            # Inductor's processes may choose another ptxas than Triton does.
            for path in filter(None, dict.fromkeys((assembler, other))):
                first, said = assemble_as(text, options, path, architecture)
                if first:
                    break
            # Line numbers of the source are comments, too, to ptxas; they do not change the code.
            second, said = assemble_as(print_module(module, plain=True), options, path, architecture)
            same = bool(first) and same_code(first, second)
        except Exception as error:
            return False, False, False, f"{type(error).__name__}: {str(error)[:300]}"
        return exact, is_summarised, same, "" if same else said[-300:]

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as workers:
        found = dict(zip(texts, workers.map(judged, texts), strict=True))
    for name, (_, _, same, said) in found.items():
        if not same:
            print(f"  other machine code of {name}: {said}", flush=True)
    counts = zip(*(one[:3] for one in found.values()), strict=True) if found else ((), (), ())
    exact, summarised, same = (sum(column) for column in counts)
    return {"texts": len(texts), "printed_exactly": exact, "summarised": summarised, "sass_identical": same}
