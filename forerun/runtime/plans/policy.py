"""Decides what a cache does with a graph: reuse, update, build, or launch its nodes on the stream without a plan.

The policy is an object of its own, that no driver and no clock of its own is needed for: it is told what is there and
what things took, and says what to do. Four rules:

- What costs least now is done, unless a plan would pay. A plan of the graph that is asked for would have saved the
  difference to a replay; what was lost in this way is added up for each shape of graph. When it comes to the price of a
  plan, times the policy's patience, one is built ("ski rental").
- A plan that was built, and is left before it has saved its price, makes the policy more patient; one that has paid
  makes it less so. So changes that go on stop causing builds, and plans come back when the changes stop.
- When plans have paid, one after the other, the next is built at once, if all that have not paid yet cost no more than
  one percent of the time that was spent so far.
- Costs are those measured here: moving averages for each shape, or else for a node of any graph. Before a build was
  measured, one is tried only where a notable part of all time is lost: it may be far dearer than thought.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Choice", "Costs", "Offer", "Policy"]


class Choice(StrEnum):
    """What is done with a graph that is asked for."""

    REUSE = "reuse"
    UPDATE = "update"
    BUILD = "build"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for a node, before anything was measured here.

    The defaults are those of an NVIDIA H200 through the Python bindings (docs/plans.md): making and instantiating a
    CUDA graph, setting a node's parameters, launching a node on a stream, and replaying it in a graph; ``launch`` is
    that of a whole graph.
    """

    build: float = 15e-6
    update: float = 1.1e-6
    stream: float = 3.3e-6
    replay: float = 0.6e-6
    launch: float = 15e-6


@dataclass(frozen=True, slots=True)
class Offer:
    """What could be done with a graph that is asked for.

    Attributes:
        shape: What graphs have in common that are counted together: see :mod:`forerun.runtime.plans.comparison`.
        nodes: How many nodes it has.
        changed: How many nodes of the nearest plan differ; ``None`` if there is no plan that could become this graph.
        can_stream: Whether it can be launched node by node.
        variant: What tells graphs of the shape apart that no plan is at present, such as a hash of what changed.
    """

    shape: Hashable
    nodes: int
    changed: int | None = None
    can_stream: bool = False
    variant: Hashable = None


_LEAST_PATIENCE, _MOST_PATIENCE = 0.25, 4.0
_STREAK = 3
"""After how many plans that have paid the next may be built at once."""
_AT_RISK = 0.01
"""Which part of all time plans may cost that have not paid."""
_NOTABLE = 0.02
"""Which part of all time must have been lost on a shape for the first plan of all, whose price nobody knows yet."""
_IDLE = 16
"""After how many other requests a plan counts as left."""
_FORGET = 4096
"""How many shapes are remembered, and of each a part of that of its variants."""
_WEIGHT = 0.25
"""The weight of a new measurement in a moving average."""


@dataclass(slots=True)
class _Shape:
    """What is known of the graphs of one shape."""

    seconds: dict[Choice, float] = field(default_factory=dict)
    lost: float = 0.0
    wanted_more: float = 0.1
    variants: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)
    balance: float = 0.0
    unpaid: float = 0.0
    last: int = 0
    is_left: bool = False


class Policy:
    """Chooses, and learns.

    Args:
        clock: Tells seconds; for :meth:`timed`.
        costs: Where the estimates begin.

    Example:
        >>> policy = Policy(clock=lambda: 0.0)
        >>> offers = [Offer("decode", 2000, None, can_stream=True)] * 2 + [Offer("decode", 2000, 0, can_stream=True)]
        >>> [str(policy.choose(offer)) for offer in offers]
        ['stream', 'build', 'reuse']
    """

    def __init__(self, clock: Callable[[], float], costs: Costs | None = None) -> None:
        costs = costs or Costs()
        self.clock = clock
        self._rates = {
            Choice.BUILD: costs.build,
            Choice.UPDATE: costs.update,
            Choice.STREAM: costs.stream,
            Choice.REUSE: costs.replay,
        }
        self._launch = costs.launch
        self._measured: set[Choice] = set()
        self._shapes: OrderedDict[Hashable, _Shape] = OrderedDict()
        self._built: dict[Hashable, None] = {}
        self._patience = _LEAST_PATIENCE
        self._streak = 0
        self._spent = 0.0
        self._unpaid = 0.0
        self._requests = 0

    def choose(self, offer: Offer) -> Choice:
        """What to do now; the policy counts on its being done."""
        self._requests += 1
        shape = self._shape(offer.shape)
        shape.last = self._requests
        replay = self._estimate(Choice.REUSE, shape, offer.nodes)
        stream = self._estimate(Choice.STREAM, shape, offer.nodes) if offer.can_stream else None
        if offer.changed == 0:
            return self._settled(shape, Choice.REUSE, replay, stream)
        update = None if offer.changed is None else replay + self._rates[Choice.UPDATE] * offer.changed
        if stream is None and update is None:
            return self._build(offer.shape, shape, offer.nodes)
        cheapest = min(cost for cost in (stream, update) if cost is not None)
        price = self._rates[Choice.BUILD] * offer.nodes
        self._look_for_left_plans(offer.shape)
        # A second plan of a shape is for graphs that come again; if it is not reused, more must have been lost next.
        patience = self._patience if offer.changed is None else shape.wanted_more
        if offer.changed is None or _comes_again(shape, offer.variant):
            shape.lost += max(0.0, cheapest - replay)
        bold = offer.changed is None and self._streak >= _STREAK and self._unpaid + price <= _AT_RISK * self._spent
        # Until a build was measured its price is a guess, to be found out for what a part of all time is lost on.
        guessed = 0.0 if Choice.BUILD in self._measured else _NOTABLE * self._spent
        if bold or shape.lost >= max(patience * price, guessed):
            if offer.changed is not None:
                shape.wanted_more = min(256.0, 16 * shape.wanted_more)
            return self._build(offer.shape, shape, offer.nodes)
        chosen = Choice.UPDATE if cheapest == update else Choice.STREAM
        return self._settled(shape, chosen, cheapest, stream)

    @contextmanager
    def timed(self, choice: Choice, offer: Offer, nodes: int | None = None) -> Iterator[None]:
        """Measure what the block takes, as the cost of a choice for ``nodes`` nodes of an offer, by default all."""
        began = self.clock()
        yield
        self.note(choice, offer, self.clock() - began, nodes)

    def note(self, choice: Choice, offer: Offer, seconds: float, nodes: int | None = None) -> None:
        """Learn what something took: a replay (``REUSE``, ``STREAM``), or a build or an update without one."""
        self._spent += seconds
        count = max(1, offer.nodes if nodes is None else nodes)
        weight = _WEIGHT if choice in self._measured else 1.0
        self._measured.add(choice)
        self._rates[choice] += weight * (seconds / count - self._rates[choice])
        if choice in (Choice.REUSE, Choice.STREAM):
            known = self._shape(offer.shape).seconds
            known[choice] = seconds if choice not in known else known[choice] + _WEIGHT * (seconds - known[choice])

    @property
    def patience(self) -> float:
        """How many times its price a plan must have been missed before one is built."""
        return self._patience

    def _settled(self, shape: _Shape, chosen: Choice, cost: float, stream: float | None) -> Choice:
        """Prefer the stream where it is cheaper still, and credit a plan with what it has saved."""
        if stream is not None and stream < cost:
            return Choice.STREAM
        if chosen is Choice.REUSE:
            shape.wanted_more = max(0.1, shape.wanted_more / 2)
            shape.lost *= 0.5
        if chosen in (Choice.REUSE, Choice.UPDATE) and shape.unpaid:
            without = stream if stream is not None else cost + shape.unpaid
            shape.balance += without - cost
            if shape.balance >= 0:
                self._paid(shape)
        return chosen

    def _build(self, key: Hashable, shape: _Shape, nodes: int) -> Choice:
        price = self._rates[Choice.BUILD] * nodes
        shape.lost = 0.0
        shape.balance = min(0.0, shape.balance) - price
        shape.unpaid += price
        self._unpaid += price
        self._built[key] = None
        return Choice.BUILD

    def _paid(self, shape: _Shape) -> None:
        self._unpaid -= shape.unpaid
        shape.unpaid = 0.0
        self._streak += 1
        self._patience = max(_LEAST_PATIENCE, self._patience / (4 if shape.is_left else 2))
        shape.is_left = False

    def _look_for_left_plans(self, present: Hashable) -> None:
        """Become more patient for each plan that was not used for a while, and had not paid until then."""
        for key in list(self._built):
            shape = self._shapes.get(key)
            if shape is not None and (key == present or self._requests - shape.last <= _IDLE):
                continue
            del self._built[key]
            if shape is not None and shape.unpaid and not shape.is_left:
                shape.is_left = True
                self._streak = 0
                self._patience = min(_MOST_PATIENCE, self._patience * 4)

    def _estimate(self, choice: Choice, shape: _Shape, nodes: int) -> float:
        launch = self._launch if choice is Choice.REUSE else 0.0
        return shape.seconds.get(choice, launch + self._rates[choice] * nodes)

    def _shape(self, key: Hashable) -> _Shape:
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = _Shape()
            if len(self._shapes) > _FORGET:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(key)
        return found


def _comes_again(shape: _Shape, variant: Hashable) -> bool:
    """Whether a graph of the shape was asked for before, and became something else since."""
    known = variant in shape.variants
    shape.variants[variant] = None
    shape.variants.move_to_end(variant)
    if len(shape.variants) > _FORGET // 64:
        shape.variants.popitem(last=False)
    return known
