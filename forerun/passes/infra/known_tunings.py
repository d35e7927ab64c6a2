"""Tunings that are found by themselves: those of the user's cache, then those that forerun brings for known GPUs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from forerun.ir.graph import Graph
from forerun.passes.infra.tuning import Tuning, groups_of, read_tuning
from forerun.support.diagnostics import InvalidInput

__all__ = ["SHIPPED", "file_name", "known_tuning"]

SHIPPED = Path(__file__).with_name("tunings")
"""The folder of the tunings that forerun brings; each names its GPU and driver."""


def known_tuning(groups: Collection[str], gpu: str, driver: str, folders: Iterable[Path]) -> tuple[Path, Tuning] | None:
    """The tuning with the most choices for a graph, of those that were measured on this GPU with this driver.

    A tuning is for a graph if most groups that it chooses for are the graph's: the shapes of a few buffers may differ
    with the length of a context, or the number of steps in a graph. Files that cannot be read are passed over. Earlier
    folders win over later ones, as do newer files over older ones.

    Returns:
        The file and what it says, or ``None``.
    """
    for folder in folders:
        fitting = [found for found in _tunings(folder) if _fits(found[1], groups, gpu, driver)]
        if fitting:
            return max(fitting, key=lambda found: (_shared(found[1], groups), found[0].stat().st_mtime))
    return None


def file_name(graph: Graph, gpu: str) -> str:
    """The name of the file for a graph's tuning, after its passes.

    It is the same for graphs of the same groups on the same GPU.
    """
    digest = hashlib.sha256("\n".join(sorted(groups_of(graph))).encode()).hexdigest()[:12]
    words = re.sub(r"[^a-z0-9]+", "-", f"{gpu} {graph.name}".lower()).strip("-")
    return f"{words[:60]}-{digest}.json"


def _tunings(folder: Path) -> Iterator[tuple[Path, Tuning]]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, read_tuning(path)
        except InvalidInput:  # another program's file, or one that a newer version wrote
            continue


def _fits(tuning: Tuning, groups: Collection[str], gpu: str, driver: str) -> bool:
    is_measured = tuning.gpu == gpu and not tuning.misfit(gpu, driver)
    return is_measured and 2 * _shared(tuning, groups) > len(tuning.choices)


def _shared(tuning: Tuning, groups: Collection[str]) -> int:
    """How many of its choices are for groups of a graph."""
    return sum(group in groups for group in tuning.choices)
