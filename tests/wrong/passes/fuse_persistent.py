"""Wrong passes that make launches persistent: each forgets to ask one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from forerun.ir.graph import Graph
from forerun.ir.grouping import Group, GroupReplacement, Preparation
from forerun.ir.nodes import BufferArgument, KernelNode, ScalarLoad
from forerun.ir.types import DependencyKind
from forerun.kernels.persistent.group_rules import REQUESTS
from forerun.passes.fuse_persistent import FusePersistent
from forerun.passes.grouping.candidates import Candidate, candidates, found_groups
from forerun.passes.grouping.splice import Splicer
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []

_SETTINGS = FusePersistent(ctas=3).settings()


def _spliced(graph: Graph, found: Sequence[Candidate], splicer: Splicer | None = None) -> Graph:
    made = splicer or Splicer(graph)
    for candidate in found:
        made.replace(candidate)
    return made.commit()


def _refused(graph: Graph, words: str) -> list[Group]:
    """The groups that are refused for a reason with such words, of nodes whose dependencies are full."""
    if any(dependency.kind is not DependencyKind.FULL for dependency in graph.dependencies):
        return []
    return [group for group, reason in candidates(graph, [REQUESTS], _SETTINGS)[1] if words in reason]


def _replaced(group: Group) -> GroupReplacement | None:
    made = REQUESTS.replace(group, _SETTINGS)
    return made if isinstance(made, GroupReplacement) else None


@wrong_pass("proved", "what lies between launches may as well come before all of them")
def forgets_what_lies_in_between(graph: Graph) -> Graph:
    groups = _refused(graph, "in between")
    made = [Candidate(REQUESTS, group, found) for group in groups if (found := _replaced(group)) is not None]
    return _spliced(graph, made[:1])


@wrong_pass("proved", "a batch is the same in all layers, whoever writes it")
def shares_any_schedule(graph: Graph) -> Graph:
    class Careless(Splicer):
        def serves(self, preparation: Preparation, between: Sequence[str]) -> bool:
            return True

    return _spliced(graph, candidates(graph, [REQUESTS], _SETTINGS)[0], Careless(graph))


@wrong_pass("proved", "launches for the same requests write the same, so one of them is enough")
def forgets_that_requests_are_apart(graph: Graph) -> Graph:
    for group in _refused(graph, "which another launch is for, too"):
        whole = [n for n in group.nodes if _is_for_all(group.graph, n)]
        made = _replaced(Group(graph, tuple(whole[:1]))) if whole else None
        if made is not None:
            return _spliced(graph, [Candidate(REQUESTS, group, made)])
    return graph


def _is_for_all(graph: Graph, node: KernelNode) -> bool:
    loads = dict(node.arguments)
    return loads["begin"] == ScalarLoad("query_pointers", 0)


@wrong_pass("proved", "a kernel may write the rows of all requests, whichever the launches were for")
def takes_all_rows(graph: Graph) -> Graph:
    for group in found_groups(graph, REQUESTS):
        made = _replaced(group)
        if made is not None:
            count = graph.buffers["kv_lengths"].count
            launched = replace(
                made.launched, arguments={**made.launched.arguments, "end": ScalarLoad("query_pointers", count)}
            )
            if launched != made.launched:
                return _spliced(graph, [Candidate(REQUESTS, group, replace(made, launched=launched))])
    return graph


@wrong_pass("proved", "any batch will do for a schedule")
def schedules_another_batch(graph: Graph) -> Graph:
    found, _ = candidates(graph, [REQUESTS], _SETTINGS)
    if not found:
        return graph
    made = found[0].replacement
    launched = made.preparation.launched
    swapped = {**launched.arguments, "page_pointers": BufferArgument("other_pointers")}
    preparation = replace(made.preparation, launched=replace(launched, arguments=swapped))
    return _spliced(graph, [replace(found[0], replacement=replace(made, preparation=preparation))])
