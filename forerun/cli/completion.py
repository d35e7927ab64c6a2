"""What the shell offers for a word that somebody has begun. Each function imports what it needs when it is asked."""

from __future__ import annotations

from collections.abc import Iterable
from glob import escape, glob
from pathlib import Path

__all__ = ["graphs", "litmus_tests", "modules", "passes", "samples", "shapes", "subjects", "targets"]


def passes(incomplete: str) -> list[str]:
    """Pipelines: the passes before the last comma, and each that may follow."""
    from forerun.passes.infra.named_pipelines import NAMED_PIPELINES
    from forerun.passes.infra.registry import available

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, [*NAMED_PIPELINES, *available()])]


def shapes(incomplete: str) -> list[str]:
    """Models of which only the shapes are known."""
    from forerun.frontends.llama_config import SHAPES

    return _beginning(incomplete, SHAPES)


def targets(incomplete: str) -> list[str]:
    """Targets by name."""
    from forerun.runtime.base import target_names

    return _beginning(incomplete, target_names())


def litmus_tests(incomplete: str) -> list[str]:
    """Litmus tests by name."""
    from forerun.runtime.litmus import TESTS

    return _beginning(incomplete, TESTS)


def samples(incomplete: str) -> list[str]:
    """Sample graphs by name."""
    from forerun.frontends.samples import SAMPLES

    return _beginning(incomplete, SAMPLES)


def graphs(incomplete: str) -> list[str]:
    """Files of graphs."""
    return _files(incomplete, ".fir")


def modules(incomplete: str) -> list[str]:
    """Files that ``--load`` takes."""
    return _files(incomplete, ".py", ".cu", ".ptx", ".cubin")


def subjects(incomplete: str) -> list[str]:
    """Files of graphs and models, and models that have a name."""
    from forerun.cli.models import BUILT_IN_MODEL

    return [*_beginning(incomplete, [BUILT_IN_MODEL]), *_files(incomplete, ".fir", ".gguf")]


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _files(incomplete: str, *suffixes: str) -> list[str]:
    """Files with one of the suffixes, and folders, whose names begin so."""
    found = sorted(glob(escape(incomplete) + "*"))
    folders = {name for name in found if Path(name).is_dir()}
    return [f"{name}/" if name in folders else name for name in found if name in folders or name.endswith(suffixes)]
