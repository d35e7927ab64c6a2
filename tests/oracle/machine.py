"""A machine that runs a graph under one schedule, with bytes that are hashes of what was computed.

The rules are those of docs/pdl.md, written down as what a GPU may do, not as what is certain:

- A node starts when the sources of its full dependencies are complete. Its roles run side by side, one step at a time;
  all of them meet at a barrier. A wait returns when the sources of its programmatic dependencies are complete.
- What a phase stores is a hash of the phase and of what it read. An asynchronous phase that stores nothing reads at any
  time until somebody uses what it defines, or until the node is complete.
- A graph is over when its sinks are complete. What is not drained runs on, into the next replay.
- With the assumption H6, or H8 for nodes whose first trigger is fenced, a node starts only after its programmatic
  sources have triggered. Each role then is two threads, one of which runs ahead to the trigger, and what is stored is
  visible to others at some time until the node is complete, or a fenced trigger releases it.

A step is done when nothing that must come first is left; among steps that can be done, a schedule chooses by priority.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Phase, Trigger, Wait
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, KernelNode, Node
from forerun.ir.region import BufferView
from forerun.ir.types import BufferRole, DependencyKind
from tests.oracle.actions import Action, acts
from tests.oracle.facts import phase_identity
from tests.oracle.launches import Launched, Store, Values
from tests.oracle.memory import Memory, number_in

__all__ = ["Deadlock", "Machine", "Priority"]

Priority = Callable[[str, str, int], float]
"""What a thread of a node is worth: the node, the kind of thread (``role``, ``copy``, ``trigger``), and a number."""

_LOOPS = 2
_VISIBLE = (BufferRole.INPUT, BufferRole.OUTPUT, BufferRole.STATE, BufferRole.WEIGHT, BufferRole.PARAM)
_CHANGED = (BufferRole.OUTPUT, BufferRole.STATE)


class Deadlock(Exception):
    """Nothing can be done, and the graph is not over."""


@dataclass
class Machine:
    """A graph on its way.

    Attributes:
        graph: The graph.
        memory: Its bytes.
        priority: The schedule.
        assumptions: ``H6``, ``H8``.
        fused: What stands for others, by name: it defines the values that the others compute one after the other.
    """

    graph: Graph
    memory: Memory
    priority: Priority
    assumptions: frozenset[str] = frozenset()
    fused: Mapping[str, Callable[[Values], Store]] = field(default_factory=dict)
    log: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ready: list[tuple[float, int, Callable[[], None]]] = []
        self.count = self.choices = 0
        self.slow = bool(self.assumptions)

    def replay(self) -> None:
        """Run until the graph is over."""
        over: list[bool] = []
        _Run(self, self.graph, lambda: over.append(True))
        while not over:
            if not self.ready:
                raise Deadlock
            self.choices += len(self.ready) > 1
            heapq.heappop(self.ready)[2]()

    def finish(self) -> None:
        """Run what is left."""
        while self.ready:
            heapq.heappop(self.ready)[2]()

    def can_do(self, node: str, kind: str, number: int, step: Callable[[], None]) -> None:
        """A step can be done from now on."""
        self.count += 1
        heapq.heappush(self.ready, (-self.priority(node, kind, number), self.count, step))


class _Run:
    """One run of a graph or of a body."""

    def __init__(self, machine: Machine, graph: Graph, then: Callable[[], None]) -> None:
        self.machine, self.graph, self.then = machine, graph, then
        self.over = False
        self.units = {name: _Unit(self, node) for name, node in graph.nodes.items()}
        self.sinks = {name for name in graph.nodes if not graph.has_outgoing(name)}
        self.gated = {u for u in graph.nodes if machine.slow and self.gates(u)}
        for unit in list(self.units.values()):
            unit.look()
        self.check_over()

    def gates(self, name: str) -> bool:
        """Whether the trigger of a node comes before the starts of its programmatic dependents."""
        if "H6" in self.machine.assumptions:
            return True
        node = self.graph.nodes[name]
        if not isinstance(node, KernelNode):
            return False
        firsts = list[tuple[int, bool]]()
        for role in self.machine.graph.kernels[node.kernel].roles or ():
            epoch = 0
            for step in role.steps:
                if isinstance(step, Trigger):
                    firsts.append((epoch, step.fenced))
                    break
                epoch += isinstance(step, Barrier)
        least = min((epoch for epoch, _ in firsts), default=0)
        return bool(firsts) and all(fenced for epoch, fenced in firsts if epoch == least)

    def check_over(self) -> None:
        if not self.over and all(self.units[name].complete for name in self.sinks):
            self.over = True
            self.then()


class _Unit:
    """One run of a node."""

    def __init__(self, run: _Run, node: Node) -> None:
        self.run, self.node = run, node
        self.action = Action(run.machine.memory, node, run.machine.log)
        self.started = self.complete = self.triggered = False
        self.threads: list[_Thread] = []
        self.open = 0
        self.launched: Launched | None = None
        self.hidden: list[tuple[int, Store]] = []
        incoming = run.graph.incoming(node.name)
        self.full = [d.source for d in incoming if d.kind is DependencyKind.FULL]
        self.programmatic = [d.source for d in incoming if d.kind is DependencyKind.PROGRAMMATIC]

    @property
    def machine(self) -> Machine:
        return self.run.machine

    def may_pass(self) -> bool:
        """Whether the wait returns."""
        units = self.run.units
        return all(units[name].complete for name in self.programmatic)

    def look(self) -> None:
        """Start if all that must come first is complete; go on if something has become possible."""
        if self.started:
            for thread in list(self.threads):
                thread.go_on()
            return
        units = self.run.units
        if not all(units[name].complete for name in self.full):
            return
        if any(name in self.run.gated and not units[name].triggered for name in self.programmatic):
            return
        self.started = True
        self.start()

    def start(self) -> None:
        """Begin with what the node does."""
        node, machine = self.node, self.machine
        kernel = machine.graph.kernels[node.kernel] if isinstance(node, KernelNode) else None
        if isinstance(node, KernelNode) and kernel is not None and kernel.roles is not None:
            self.launched = Launched(machine.graph, node, machine.memory, machine.fused.get(node.name))
            for i, role in enumerate(kernel.roles):
                self.threads += [_Thread(self, i, role.steps, works=True, triggers=not machine.slow)]
                self.threads += [_Thread(self, i, role.steps, works=False, triggers=True)] if machine.slow else []
            for thread in list(self.threads):
                thread.go_on()
            self.check_complete()
        elif isinstance(node, ChildGraphNode):
            _Run(machine, node.body, self.finish)
        elif isinstance(node, KernelNode | ConditionalNode) or acts(node):
            machine.can_do(node.name, "role", 0, self.act)
        else:
            self.finish()

    def finish(self) -> None:
        """All is done and visible."""
        for _, store in self.hidden:
            store.perform(self.machine.memory)
        self.hidden = []
        self.complete = self.triggered = True
        for dependency in self.run.graph.outgoing(self.node.name):
            self.run.units[dependency.target].look()
        self.run.check_over()

    def check_complete(self) -> None:
        """Whether all threads have ended, and the copy engine too."""
        if self.started and not self.complete and not self.open and all(thread.ended for thread in self.threads):
            self.finish()

    def trigger(self, fenced: bool, epoch: int) -> None:
        """The first trigger counts; a fenced one releases what was stored before a barrier."""
        if fenced and "H8" in self.machine.assumptions:
            for at, store in self.hidden:
                if at < epoch:
                    store.perform(self.machine.memory)
            self.hidden = [(at, store) for at, store in self.hidden if at >= epoch]
        if not self.triggered:
            self.triggered = True
            for dependency in self.run.graph.outgoing(self.node.name):
                self.run.units[dependency.target].look()

    def store(self, store: Store, epoch: int) -> None:
        """What a phase stores is visible at once, or, where that can matter, later."""
        if self.machine.slow:
            self.hidden.append((epoch, store))
        else:
            store.perform(self.machine.memory)

    def identity(self, phase: Phase) -> int:
        """What a phase computes, as a number."""
        key = "identity", self.node.name, phase.name
        known = self.machine.memory.known
        if key not in known:
            known[key] = phase_identity(self.machine.graph, self.node, phase)
        found: int = known[key]
        return found

    # Nodes without phases

    def act(self) -> None:
        """Do all that the node does, in one step."""
        if isinstance(self.node, ConditionalNode):
            self.choose(0)
        else:
            self.action.perform()
            self.finish()

    def choose(self, rounds: int) -> None:
        """A conditional reads its condition, at the start and before each round of a loop."""
        node = self.node
        assert isinstance(node, ConditionalNode)
        width = self.machine.graph.buffers[node.condition].dtype.itemsize
        element = self.action.get(BufferView(node.condition))[:width]
        value = number_in(element, 0, 2)
        if node.kind == "while":
            again = value != 0 and rounds < _LOOPS
            body = node.bodies[0] if again else None
        elif node.kind == "if":
            body = node.bodies[0] if value else (*node.bodies[1:], None)[0]
        else:
            body = node.bodies[value] if value < len(node.bodies) else None
        if body is None:
            self.finish()
        elif node.kind == "while":
            _Run(self.machine, body, lambda: self.machine.can_do(node.name, "role", 0, lambda: self.choose(rounds + 1)))
        else:
            _Run(self.machine, body, self.finish)


class _Thread:
    """One role of a node; where it matters, one of the threads that run a role."""

    def __init__(self, unit: _Unit, number: int, steps: tuple[object, ...], *, works: bool, triggers: bool) -> None:
        self.unit, self.number, self.steps = unit, number, steps
        self.works, self.triggers = works, triggers
        self.at = self.epoch = 0
        self.ended = self.queued = self.at_barrier = False

    def go_on(self) -> None:
        """Do what uses no choice, up to a step that can be done now or that must wait."""
        while not self.queued and not self.ended and not self.at_barrier:
            if self.at == len(self.steps):
                self.ended = True
                self.meet()
                self.unit.check_complete()
                return
            step = self.steps[self.at]
            if isinstance(step, Phase) and self.works:
                launched = self.unit.launched
                assert launched is not None
                if any(local not in launched.locals for local in step.uses):
                    return
                self.queue(lambda found=step: self.phase(found))
            elif isinstance(step, Trigger) and self.triggers and self.unit.machine.slow:
                self.queue(lambda found=step: self.trigger(found))
            elif isinstance(step, Wait) and not self.unit.may_pass():
                return
            elif isinstance(step, Barrier):
                self.at_barrier = True
                self.meet()
            else:
                self.at += 1

    def queue(self, step: Callable[[], None]) -> None:
        self.queued = True
        self.unit.machine.can_do(self.unit.node.name, "role" if self.works else "trigger", self.number, step)

    def meet(self) -> None:
        """All threads that have not ended are at a barrier: they go on."""
        threads = self.unit.threads
        if any(thread.at_barrier for thread in threads) and all(t.at_barrier or t.ended for t in threads):
            for thread in threads:
                if thread.at_barrier:
                    thread.at_barrier = False
                    thread.at += 1
                    thread.epoch += 1
            for thread in threads:
                thread.go_on()

    def trigger(self, step: Trigger) -> None:
        self.queued = False
        self.at += 1
        self.unit.trigger(step.fenced, self.epoch)
        self.go_on()

    def phase(self, phase: Phase) -> None:
        """A phase reads and stores; or the copy engine is told to."""
        unit, launched = self.unit, self.unit.launched
        assert launched is not None
        self.queued = False
        self.at += 1
        if phase.asynchronous and not phase.writes:
            unit.open += 1
            unit.machine.can_do(unit.node.name, "copy", self.number, lambda: self.copy(phase))
        else:
            hidden = [store for _, store in unit.hidden]
            unit.store(launched.run(phase, unit.identity(phase), hidden), self.epoch)
        for thread in list(unit.threads):
            thread.go_on()

    def copy(self, phase: Phase) -> None:
        """The copy engine reads."""
        unit, launched = self.unit, self.unit.launched
        assert launched is not None
        hidden = [store for _, store in unit.hidden]
        launched.run(phase, unit.identity(phase), hidden)
        unit.open -= 1
        for thread in list(unit.threads):
            thread.go_on()
        unit.check_complete()
