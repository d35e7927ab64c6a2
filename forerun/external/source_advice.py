"""What there is to say about copies from the host in a captured graph: who may write their sources, and which changed.

A8: a copy from the host, whether it can go, and who may write its source. A9: a source that changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from forerun.captured import CapturedGraph
from forerun.captured.graph import Writers
from forerun.external.folded_copies import FoldedCopies, folded_copies
from forerun.frontends.captured import ImportedGraph
from forerun.support.diagnostics import Diagnostic, Location, Severity

__all__ = ["advice_of_copies", "advice_of_folds", "changed_between"]

_WHO: dict[Writers, str] = {
    "nobody": "its source is mapped read-only",
    "program": "nobody but the program can write its source",
    "kernels": "the program, and kernels that have its address, can write its source",
    "processes": "other processes can write its source",
}


def advice_of_copies(imported: ImportedGraph) -> Iterator[Diagnostic]:
    """What copies of launch parameters a captured graph repeats, and which of their sources changed since."""
    sources = imported.captured.host_sources
    found = folded_copies(imported, {number: source.contents for number, source in sources.items()})
    for number, source in sources.items():
        name, size = imported.names[number], len(source.contents)
        copied = f"each replay copies {size} bytes from the host"
        if source.changed:
            hint = "leave it as it is: it does not bring the same in each replay"
            yield _changed(name, "its source does not hold any more what it held when it was captured", hint)
        elif number in found.contents:
            hint = "forerun.optimize(graph, fold_params=True) leaves the copy out, if its source stays as it is"
            yield _note(name, f"{copied}; {_WHO[source.writers]}", hint)
        else:
            yield _note(name, f"{copied}, and must: {found.kept[name]}")


def advice_of_folds(imported: ImportedGraph, folded: FoldedCopies, changed: Collection[int]) -> Iterator[Diagnostic]:
    """What replays without these copies rest on: sources that changed, and who may write the others."""
    for number in folded.contents:
        name = imported.names[number]
        if number in changed:
            hint = "refresh() takes over what it holds now"
            yield _changed(name, "its source does not hold any more what replays use in place of the copy", hint)
            continue
        writers = imported.captured.host_sources[number].writers
        if writers != "nobody":
            hint = "changed_sources() tells when somebody did"
            yield _note(name, f"replays do not repeat the copy, and {_WHO[writers]}", hint)


def changed_between(before: CapturedGraph, imported: ImportedGraph) -> Iterator[Diagnostic]:
    """The copies that bring other bytes in a graph that was captured later."""
    for number, source in imported.captured.host_sources.items():
        known = before.host_sources.get(number)
        if known is not None and known.contents != source.contents:
            hint = "leave it as it is: it does not bring the same in each replay"
            yield _changed(imported.names[number], "its source holds other bytes than in the first graph", hint)


def _changed(name: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic("A9", message, Location("node", name), hint, Severity.WARNING)


def _note(name: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic("A8", message, Location("node", name), hint, Severity.NOTE)
