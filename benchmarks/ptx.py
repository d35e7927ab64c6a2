"""PTX: what is read and printed, whether ptxas makes the same of it, how long it takes, and which addresses are named.

The texts are those of forerun's own kernels, as the tests launch them and as models do, of the tests' data, and of
files and folders that are named. It needs the toolchain, and no GPU. Run from the repository's root:
``python -m benchmarks.ptx FILE...``
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, bootstrap_median, write_result

from forerun.ptx import AccessSummary, parse_module, print_module, summarise
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import Source, compile_units
from tests.kernels.cuda_cases import all_cases
from tests.kernels.fast_cases import every_case
from tests.kernels.on_cpu.runner import unit_of
from tests.kernels.test_cuda_sources import GRAPHS
from tests.ptx.cubins import machine_code
from tests.ptx.texts import DATA

__all__ = ["main"]

ROUNDS = 5
_NEWEST = ".version 9.0"
"""What ptxas of CUDA 13.0 reads; newer texts are assembled as if they were that."""


def own_kernels(arch: str) -> list[str]:
    """The PTX of forerun's kernels, each text once."""
    found = [unit_of(case.kernel, case.shapes, case.launch, **case.constants) for case in [*all_cases(), *every_case()]]
    found += [unit for graph in GRAPHS.values() for unit in units(graph)[0]]
    sources = list(dict.fromkeys(unit.source for unit in found if isinstance(unit.source, Source)))
    return [cubin.ptx for cubin in compile_units(sources, arch)]


def named(paths: Iterable[Path]) -> list[str]:
    """The texts of files, and of all ``.ptx`` files in folders."""
    files = [file for path in paths for file in (sorted(path.rglob("*.ptx")) if path.is_dir() else [path])]
    return [file.read_text(encoding="utf-8") for file in files]


def assembles_to_the_same(text: str) -> bool:
    """Whether ptxas makes the same machine code of a text and of its usual form, without comments."""
    version = text[text.index(".version") :].partition("\n")[0]
    text = text.replace(version, min(version, _NEWEST), 1)
    module = parse_module(text)
    arch = module.target[0]
    return machine_code(print_module(module, plain=True), arch) == machine_code(text, arch)


def summaries(text: str) -> list[AccessSummary]:
    """What each kernel of a text accesses."""
    return [summarise(entry) for entry in parse_module(text).entries]


def seconds_of(texts: list[str], work: Callable[[str], object]) -> list[float]:
    """CPU seconds for a megabyte, in each round."""
    size = sum(map(len, texts))
    found = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        for text in texts:
            work(text)
        found.append((time.process_time() - begin) / size * 1e6)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write ``benchmarks/results/ptx.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="files of PTX, or folders of them")
    parser.add_argument("--arch", default="sm_90", help="for forerun's own kernels")
    options = parser.parse_args(arguments)
    texts = list(dict.fromkeys([*own_kernels(options.arch), *DATA.values(), *named(options.paths)]))
    exact = sum(print_module(parse_module(text)) == text for text in texts)
    with ThreadPoolExecutor(2) as pool:
        same = sum(pool.map(assembles_to_the_same, texts))
    found = [summary for text in texts for summary in summaries(text)]
    accesses = [access for summary in found for access in summary.global_accesses]
    counts = {
        "ptx.files": len(texts),
        "ptx.printed_exactly": exact,
        "ptx.sass_identical": same,
        "ptx.kernels": len(found),
        "ptx.global_accesses": len(accesses),
        "ptx.accesses_with_known_roots": sum("?" not in access.roots for access in accesses),
        "ptx.accesses_with_one_parameter": sum(access.parameter is not None for access in accesses),
    }
    metrics = {name: Metric(count, "count", count, count) for name, count in counts.items()}
    metrics["ptx.parse_1mb_s"] = bootstrap_median(seconds_of(texts, parse_module), "s")
    metrics["ptx.summarise_1mb_s"] = bootstrap_median(seconds_of(texts, summaries), "s")
    write_result("ptx", metrics)
    return 0 if exact == same == len(texts) else 1


if __name__ == "__main__":
    sys.exit(main())
