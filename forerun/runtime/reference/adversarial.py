"""Adversarial schedules: a graph runs in any order that the strict event model allows.

A node v has the events S (start), W (its wait returns), T (trigger) and C (complete and flushed). What the machine
keeps, with the rules' numbers from docs/reference-runtime.md:

- H2: v starts when the sources of its full dependencies are complete. Programmatic and launch-order dependencies do not
  hold back the start; with the assumption H6, v also needs every programmatic source to have triggered.
- H3: a wait returns when the sources of the node's programmatic dependencies are complete too.
- A phase reads when it executes, and its writes go to the node's store buffer, which the node itself sees. Each store
  becomes visible at some point between the phase and C, whole or in two pieces; those that overlap keep their order.
- The reads of an asynchronous phase without writes happen anywhere between the phase and the first phase that uses
  what it defines.
- C: all roles have ended, all reads happened, all stores are visible (H4: a role ends after its wait). T: the first
  role triggers, or all roles have ended.
- H7: the graph ends when its sinks are complete; outputs are read then. The next replay starts after everything.

Waits, triggers and barriers are no actions of their own: once they can pass, nobody can see when they do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from forerun.ir.kernel import Trigger, Wait
from forerun.runtime.reference.bound import (
    BoundControl,
    BoundGraph,
    BoundKernel,
    BoundOperation,
    BoundPhase,
    Reach,
    ScalarSource,
)
from forerun.runtime.reference.functions import failure
from forerun.runtime.reference.memory import snapshot
from forerun.runtime.reference.schedule import Action
from forerun.runtime.reference.states import MISSING, LatePhase, NodeState, RoleState, Store, pieces
from forerun.runtime.reference.strategies import Strategy
from forerun.support.diagnostics import ForerunError, InternalError, InvalidInput

__all__ = ["Machine", "count_actions"]

_BLOCKED, _READY, _ARRIVED, _ENDED = RoleState.BLOCKED, RoleState.READY, RoleState.ARRIVED, RoleState.ENDED


class Machine:
    """Runs a graph once, in the order that a strategy chooses among the possible ones.

    ``record`` is called with each event before it happens. With ``h6``, triggers hold back the start of secondaries.
    ``path`` holds the names of the nodes around a body, each followed by a slash. ``on_end`` is called when the graph
    ends: its sinks are complete, other nodes perhaps not.
    """

    def __init__(
        self,
        graph: BoundGraph,
        strategy: Strategy,
        record: Callable[[Action], None],
        *,
        h6: bool,
        loop_limit: int,
        path: str = "",
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._strategy = strategy
        self._record = record
        self._h6 = h6
        self._loop_limit = loop_limit
        self._path = path
        self._on_end = on_end
        linked = zip(graph.nodes, graph.links, strict=True)
        self._states = [NodeState(i, node, links, path, h6) for i, (node, links) in enumerate(linked)]
        self._incomplete = len(self._states)
        self._running_sinks = sum(state.links.is_sink for state in self._states)
        self._possible: dict[Action, Callable[[], None]] = {}
        # Nodes that may be able to go on. A list, not recursion: a chain of empty kernels may be long.
        self._awake = [state for state in reversed(self._states) if not state.held_by]

    def run(self) -> None:
        """Run until everything is complete.

        Raises:
            InvalidInput: If a function raises or returns what it should not, a region leaves its buffer, or a recorded
                schedule does not fit the graph.
            InternalError: If nothing is possible although something is left to do.
        """
        self._wake()
        while self._possible:
            action = self._strategy.take()
            effect = self._possible.pop(action, None)
            if effect is None:
                raise _does_not_fit(action, self._possible)
            self._record(action)
            effect()
            self._wake()
        if self._incomplete:
            unfinished = [str(state) for state in self._states if not state.complete]
            raise InternalError("\n  ".join(["deadlock in an adversarial schedule:", *unfinished]))
        if not self._states:
            self._end()

    # The events of nodes

    def _add(self, state: NodeState, action: Action, effect: Callable[[], None]) -> None:
        self._possible[action] = effect
        self._strategy.add(action, state.order)

    def _wake(self) -> None:
        """Let every node that may go on go on to its next action."""
        while self._awake:
            state = self._awake.pop()
            if isinstance(state.node, BoundKernel):
                state.started = True
                self._advance_roles(state)
            elif not state.started:
                state.started = True
                self._add(state, Action("run", state.name), partial(self._run_node, state))

    def _trigger(self, state: NodeState) -> None:
        if state.triggered:
            return
        state.triggered = True
        if self._h6:
            self._release_start(state.links.programmatic_targets)

    def _release_start(self, targets: tuple[int, ...]) -> None:
        for position in targets:
            target = self._states[position]
            target.held_by -= 1
            if not target.held_by:
                self._awake.append(target)

    def _complete_if_done(self, state: NodeState) -> None:
        if not (state.running or state.late or len(state.stores)):
            self._complete(state)

    def _complete(self, state: NodeState) -> None:
        state.complete = True
        self._incomplete -= 1
        self._release_start(state.links.full_targets)
        for position in state.links.programmatic_targets:
            target = self._states[position]
            target.waits_for -= 1
            if not target.waits_for and target.started:
                self._awake.append(target)
        self._running_sinks -= state.links.is_sink
        if not state.links.is_sink or self._running_sinks:
            return
        if not self._incomplete:
            self._end()
        elif self._on_end is not None:
            self._add(state, Action("end"), self._end)

    def _end(self) -> None:
        if self._on_end is not None:
            self._on_end()

    # Nodes that are one action

    def _run_node(self, state: NodeState) -> None:
        node = state.node
        if isinstance(node, BoundControl):
            node.drive(partial(self._run_body, state, node), self._loop_limit)
        elif isinstance(node, BoundOperation):
            _call(node.place, node.run)
        self._complete(state)

    def _run_body(self, state: NodeState, node: BoundControl, number: int) -> None:
        body = node.bodies[number]
        strategy = self._strategy.nested(count_actions(body))
        path = f"{state.name}/"
        Machine(body, strategy, self._record, h6=self._h6, loop_limit=self._loop_limit, path=path).run()

    # Roles

    def _advance_roles(self, state: NodeState) -> None:
        for role, present in enumerate(state.roles):
            if present is _BLOCKED:
                self._advance(state, role)

    def _advance(self, state: NodeState, role: int) -> None:
        """Pass the waits and triggers that can be passed, up to a phase, a barrier or the end."""
        assert isinstance(state.node, BoundKernel)
        steps = state.node.roles[role]
        while state.positions[role] < len(steps):
            step = steps[state.positions[role]]
            if isinstance(step, BoundPhase):
                if all(state.slots[slot] is not MISSING for slot in step.uses):
                    state.roles[role] = _READY
                    action = Action("phase", state.name, step.name)
                    self._add(state, action, partial(self._execute, state, role, step))
                return
            if isinstance(step, Wait):
                if state.waits_for:
                    return
            elif isinstance(step, Trigger):
                self._trigger(state)
            else:
                self._arrive(state, role)
                return
            state.positions[role] += 1
        state.roles[role] = _ENDED
        state.running -= 1
        if not state.running:
            self._trigger(state)
            self._complete_if_done(state)

    def _arrive(self, state: NodeState, role: int) -> None:
        state.roles[role] = _ARRIVED
        state.arrived += 1
        if state.arrived == len(state.roles):
            state.arrived = 0
            state.positions = [position + 1 for position in state.positions]
            state.roles = [_BLOCKED] * len(state.roles)
            self._awake.append(state)

    # Phases

    def _execute(self, state: NodeState, role: int, phase: BoundPhase) -> None:
        loaded = [self._load_scalar(state, source) for source in phase.loads]
        regions = [reach.at(loaded) for reach in phase.reads]
        floats = phase.asynchronous and not phase.writes
        late = [i for i, reach in enumerate(phase.reads) if floats and not reach.memory.constant]
        if late:
            pending = LatePhase(phase, loaded, regions, len(late))
            state.late += 1
            for i in late:
                action = Action("load", state.name, phase.name, i)
                self._add(state, action, partial(self._load, state, pending, i))
        else:
            reads = zip(phase.reads, regions, strict=True)
            self._finish(state, phase, loaded, [self._read(state, reach, view) for reach, view in reads])
        state.positions[role] += 1
        state.roles[role] = _BLOCKED
        self._awake.append(state)

    def _load(self, state: NodeState, pending: LatePhase, index: int) -> None:
        """One read of an asynchronous phase happens; with the last one, the phase has its results."""
        phase = pending.phase
        pending.arguments[index] = self._read(state, phase.reads[index], pending.arguments[index])
        pending.left -= 1
        if not pending.left:
            state.late -= 1
            self._finish(state, phase, pending.loaded, pending.arguments)
            self._awake.append(state)
            self._complete_if_done(state)

    def _finish(self, state: NodeState, phase: BoundPhase, loaded: list[int], arguments: list[NDArray[Any]]) -> None:
        uses = [state.slots[slot] for slot in phase.uses]
        returned = _call(phase.place, phase.function, *arguments, *uses, *phase.scalar_values(loaded))
        results = phase.results(returned)
        for i, reach in enumerate(phase.writes):
            target = reach.at(loaded)
            value = phase.checked(i, target, results[i]).astype(target.dtype, copy=False)
            self._store(state, Action("flush", state.name, phase.name, i), target, value)
        for slot, value in zip(phase.defines, results[len(phase.writes) :], strict=True):
            state.slots[slot] = value

    # Memory

    def _read(self, state: NodeState, reach: Reach, view: NDArray[Any]) -> NDArray[Any]:
        """What the node sees in a region now: memory, and its own stores."""
        if reach.memory.constant:
            return view
        return snapshot(reach.memory.bytes, view, state.stores.pending(view))

    def _load_scalar(self, state: NodeState, source: ScalarSource) -> int:
        pending = state.stores.pending(source.element)
        element = snapshot(source.memory.bytes, source.element, pending) if pending else source.element
        return int(element.item()) + source.offset

    def _store(self, state: NodeState, flush: Action, target: NDArray[Any], value: NDArray[Any]) -> None:
        if not target.size:
            return
        parts = [(flush, target, value)]
        if target.size > 1 and self._strategy.splits(flush):
            halves = enumerate(pieces(target, value), 1)
            parts = [(flush._replace(part=part), *half) for part, half in halves]
        for part in parts:
            store = state.stores.add(*part)
            if not store.held_by:
                self._add(state, store.action, partial(self._flush, state, store))

    def _flush(self, state: NodeState, store: Store) -> None:
        for free in state.stores.flush(store):
            self._add(state, free.action, partial(self._flush, state, free))
        self._complete_if_done(state)


def count_actions(graph: BoundGraph) -> int:
    """About how many events a run of a graph has; those of bodies are not counted."""
    count = 0
    for node in graph.nodes:
        if isinstance(node, BoundKernel):
            phases = [step for role in node.roles for step in role if isinstance(step, BoundPhase)]
            count += sum(1 + len(p.writes) + (len(p.reads) if p.asynchronous else 0) for p in phases)
        else:
            count += 1
    return count


def _call(place: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except ForerunError:
        raise
    except (Exception, SystemExit) as error:  # whatever a reference function raises
        raise failure(place, error) from error


def _does_not_fit(action: Action, possible: dict[Action, Callable[[], None]]) -> InvalidInput:
    shown = "; ".join(str(other) for _, other in zip(range(4), possible, strict=False))
    more = f"; and {len(possible) - 4} more" if len(possible) > 4 else ""
    message = f"the schedule does not fit the graph: '{action}' is not possible at this point"
    return InvalidInput(message, hint=f"possible are: {shown}{more}")
