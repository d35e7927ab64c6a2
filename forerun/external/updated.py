"""An optimized graph that becomes one of another capture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forerun.external.decisions import Rewritten
from forerun.runtime.cuda.capture.clone_update import update_clone
from forerun.runtime.cuda.capture.comparison import compare_captures
from forerun.runtime.cuda.capture.host_sources import changed_sources
from forerun.runtime.cuda.capture.session import LiveCapture, read_graph
from forerun.runtime.plans.updatable import HOW, Update, Way

if TYPE_CHECKING:
    from forerun.external.decisions import Decider

__all__ = ["updated"]


def updated(
    rewritten: Rewritten, source: Any, decider: Decider, parameters: Mapping[str, tuple[bytes, ...]]
) -> tuple[Update, Rewritten]:
    """What an update did, and what runs now; see :meth:`OptimizedGraph.update`.

    Args:
        rewritten: What runs.
        source: The other capture; ``None`` for the program's own graph.
        decider: Decides what becomes of it.
        parameters: What nodes have at present, by their names, where that is not what was captured.
    """
    clone, before = rewritten.clone, rewritten.decision
    old = clone.live
    is_as_read = source is None and clone.has_source() and not old.changes()
    if is_as_read and not changed_sources(old.driver, old.graph, before.folded.contents):
        return Update(Way.REUSED, proof=HOW[0]), rewritten
    live: LiveCapture = old.again() if source is None else read_graph(source)
    difference = compare_captures(old, live)
    decision, how = decider.decide_again(before, old, live, difference)
    way, remark = update_clone(clone, live, decision.form, difference, parameters)
    if way is Way.INSTANTIATED:
        made = decision.clone(live)
        try:
            clone.close()
        except BaseException:
            made.close()
            raise
        return Update(way, difference, remark, how), Rewritten(decision, made)
    clone.generators = decision.generators
    sources = _changed_contents(before.folded.contents, decision.folded.contents, decision.imported.names)
    return Update(way, difference, remark or sources, how), Rewritten(decision, clone)


def _changed_contents(old: Mapping[int, bytes], new: Mapping[int, bytes], names: tuple[str, ...]) -> str:
    """Which folded copies bring something else, for people."""
    changed = ", ".join(names[number] for number in new if old.get(number) != new[number])
    return f"other bytes at the source of {changed}" if changed else ""
