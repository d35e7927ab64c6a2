"""Pattern rewrites: rules that match at a node, and a worklist that applies them until none matches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from forerun.ir.buffer import Buffer
from forerun.ir.delta import Delta
from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import KernelNode, Node
from forerun.passes.base import PassContext
from forerun.support.diagnostics import InternalError

__all__ = ["RewriteRule", "RewriteView", "rewrite"]

_Match = TypeVar("_Match")


class RewriteView:
    """The graph as rewritten so far, for reading. It follows the edit: do not keep what it returns across changes."""

    def __init__(self, edit: GraphEdit) -> None:
        self._edit = edit

    def __contains__(self, name: str) -> bool:
        return name in self._edit

    def __iter__(self) -> Iterator[str]:
        """Names of the nodes: those of the first graph in launch order, then the new ones."""
        return iter(self._edit)

    def node(self, name: str) -> Node:
        """The node of that name."""
        return self._edit.node(name)

    def incoming(self, name: str) -> list[Dependency]:
        """The dependencies whose target is the node."""
        return self._edit.incoming(name)

    def outgoing(self, name: str) -> list[Dependency]:
        """The dependencies whose source is the node."""
        return self._edit.outgoing(name)

    def kernel_of(self, node: Node) -> Kernel | None:
        """The kernel that a kernel node launches; ``None`` for other nodes, and if it does not exist."""
        return self._edit.kernels.get(node.kernel) if isinstance(node, KernelNode) else None

    @property
    def buffers(self) -> Mapping[str, Buffer]:
        """The buffers by name."""
        return self._edit.buffers


class RewriteRule(Protocol, Generic[_Match]):
    """A local rewrite.

    Rules must make progress: a set of rules that undo each other never ends, and the driver says which they are.

    Attributes:
        name: For counts and messages.
        benefit: Where several rules match at a node, the one with the highest benefit is applied; of equal ones, the
            first.
    """

    @property
    def name(self) -> str:
        """For counts and messages."""
        ...

    @property
    def benefit(self) -> int:
        """Higher goes first."""
        ...

    def match(self, view: RewriteView, node: Node) -> _Match | None:
        """What :meth:`apply` needs to know if the rule applies at ``node``, else ``None``. Must not change anything."""
        ...

    def apply(self, edit: GraphEdit, match: _Match) -> None:
        """Make the change. It must change something."""
        ...


def rewrite(
    graph: Graph,
    rules: Iterable[RewriteRule[Any]],
    context: PassContext,
    *,
    max_applications: int | None = None,
) -> Graph:
    """Apply rules until none matches anywhere.

    Nodes are visited in launch order; when a rule was applied, the nodes that it touched and their neighbours are
    visited again, and when nothing is left to visit all nodes are checked once more, so that rules may look as far as
    they like. The order is the same in every run. All changes are one edit. Each application asks
    ``context.should_apply(rule.name)``, so that applications are counted by rule, and can be bisected.

    Args:
        graph: Where to start.
        rules: What to apply.
        context: That of the pass.
        max_applications: Give up after so many; by default, 100 and ten for each node and dependency.

    Returns:
        The rewritten graph; ``graph`` itself if no rule matched.

    Raises:
        InternalError: If the rules do not come to an end, or a rule that matched changed nothing.
    """
    bound = max_applications
    if bound is None:
        bound = 100 + 10 * (len(graph) + len(graph.dependencies))
    return _Driver(graph, rules, context, bound).run()


class _Driver:
    def __init__(self, graph: Graph, rules: Iterable[RewriteRule[Any]], context: PassContext, bound: int) -> None:
        self.edit = graph.edit()
        self.view = RewriteView(self.edit)
        self.rules = sorted(rules, key=lambda rule: -rule.benefit)
        self.context = context
        self.bound = bound
        self.total = Delta()
        self.applications = 0
        self.recent: deque[tuple[str, str]] = deque(maxlen=8)
        self.queue: deque[str] = deque()
        self.queued: set[str] = set()
        self.shared = {*graph.kernels, *graph.buffers, *graph.allocations}

    def run(self) -> Graph:
        swept_at = -1
        while swept_at < self.applications:
            swept_at = self.applications
            self.enqueue(list(self.view))
            if not self.drain():
                break
        self.edit.delta = self.total
        return self.edit.commit()

    def drain(self) -> bool:
        """Visit what is queued; false if the context grants no more applications."""
        while self.queue:
            name = self.queue.popleft()
            self.queued.discard(name)
            if name not in self.view:
                continue
            found = self.first_match(name)
            if found is None:
                continue
            if not self.context.should_apply(found[0].name):
                return False
            self.apply(name, *found)
        return True

    def first_match(self, name: str) -> tuple[RewriteRule[Any], Any] | None:
        node = self.view.node(name)
        for rule in self.rules:
            match = rule.match(self.view, node)
            if match is not None:
                return rule, match
        return None

    def apply(self, name: str, rule: RewriteRule[Any], match: Any) -> None:
        self.applications += 1
        self.recent.append((rule.name, name))
        if self.applications > self.bound:
            raise self.endless()
        # The edit's own record lists each name once; a fresh one tells what this application touched.
        self.edit.delta = step = Delta()
        rule.apply(self.edit, match)
        if step.is_empty:
            raise InternalError(f"rule '{rule.name}' matched at node '{name}', but changed nothing")
        self.total.include(step)
        self.enqueue(self.touched(step))

    def touched(self, step: Delta) -> Sequence[str]:
        """The nodes to visit again: those that changed, ends of dependencies that changed, and all next to them."""
        tables = {*step.kernels, *step.buffers, *step.allocations}
        if tables & self.shared:
            return list(self.view)
        self.shared |= tables
        core = dict.fromkeys(step.nodes) | dict.fromkeys(end for pair in step.dependencies for end in pair)
        present = [name for name in core if name in self.view]
        around = dict.fromkeys(present)
        for name in present:
            around.update(dict.fromkeys(d.source for d in self.view.incoming(name)))
            around.update(dict.fromkeys(d.target for d in self.view.outgoing(name)))
        return list(around)

    def enqueue(self, names: Sequence[str]) -> None:
        fresh = [name for name in names if name not in self.queued]
        self.queue.extend(fresh)
        self.queued.update(fresh)

    def endless(self) -> InternalError:
        names = " and ".join(f"'{name}'" for name in sorted({rule for rule, _ in self.recent}))
        trace = ", ".join(f"{rule} @{node}" for rule, node in self.recent)
        return InternalError(
            f"rewriting does not end: {self.bound} applications, the last ones of {names}",
            hint=f"rules must not undo each other; the last applications: {trace}",
        )
