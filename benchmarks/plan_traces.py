"""A simulated world for policies: what a step takes on a machine, traces of steps, and pure strategies to beat."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from forerun.runtime.plans.policy import Choice, Costs, Offer, Policy

NODES = 2000
_SAME, _EDIT = 2e-6, 30e-6
"""Seconds to compare the same object, and an edit of what a plan is."""


@dataclass(frozen=True)
class Step:
    """A graph that is asked for: its shape, which graph of that shape, and by how many nodes those differ."""

    shape: str
    variant: int = 0
    differing: int = NODES
    nodes: int = NODES
    device: float = 1e-3
    compare: float = 0.8e-3  # rebuilt; less for the same object, and for edits


@dataclass(frozen=True)
class World:
    """Seconds for a node, and what deciding takes: a sketch for a new shape, a comparison with a plan of the shape.

    A sketch was measured: 20 us for 125 nodes, 30 us for 829, and 49 us for 2,000.
    """

    build: float = 15e-6
    update: float = 1.1e-6
    stream: float = 3.3e-6
    launch: float = 15e-6
    sketch: float = 18e-6
    sketch_node: float = 16e-9

    def deciding(self, step: Step, changed: int | None) -> float:
        return self.sketch + self.sketch_node * step.nodes if changed is None else step.compare

    def replay(self, step: Step) -> float:
        return max(self.launch, step.device)

    def streamed(self, step: Step) -> float:
        return max(self.stream * step.nodes, step.device)

    def built(self, step: Step) -> float:
        return self.build * step.nodes

    def updated(self, step: Step) -> float:
        return self.update * step.differing


def trace(make: Callable[[int], Step], count: int) -> list[Step]:
    return [make(i) for i in range(count)]


def _prefill(i: int) -> Step:
    return Step(f"chunk {i}", nodes=NODES, device=8e-3) if i % 9 == 0 else Step("decode", i, differing=1, compare=_EDIT)


def traces(count: int = 20_000) -> dict[str, list[Step]]:
    """The ways in which engines ask for graphs."""
    return {
        "stable decode": trace(lambda i: Step("decode", compare=_SAME), count),
        "position-only change": trace(lambda i: Step("decode", i, differing=1, compare=_EDIT), count),
        "two shapes in turn": trace(lambda i: Step(f"batch {i % 2}", compare=_SAME), count),
        "two variants in turn": trace(lambda i: Step("decode", i % 2), count),
        "every step another shape": trace(lambda i: Step(f"step {i}"), count),
        "every step other arguments": trace(lambda i: Step("step", i), count),
        "prefill chunks between decodes": trace(_prefill, count),
        "recorded generation of transformers": recorded(count),
        "growing shapes": trace(lambda i: Step(f"length {i // 16}", i, differing=1), count),
        "changes that stop": trace(lambda i: Step(f"step {i}" if i < count // 2 else "decode"), count),
        "changes that start": trace(lambda i: Step("decode" if i < count // 2 else f"step {i}"), count),
    }


_RECORDING = Path(__file__).with_name("generation_trace.json")
_LAYERS = 829 / 125
"""A step of Llama-3.2-1B has 829 nodes (docs/captured-graphs.md), and one of the recorded model, of two layers, 125."""
_NODE = 1.6e-6
"""Seconds that a node of the recording takes on the device in a graph; on a stream it is the launch that counts."""


def recorded(count: int = 20_000) -> list[Step]:
    """A recorded generation of ``transformers`` (record_generation.py), again and again.

    Its cache is allocated again in each step, a token longer. So each batch and length is a shape, since buffers have
    other sizes, and the same graph when it comes again.
    """
    rows = json.loads(_RECORDING.read_text(encoding="utf-8"))["steps"]
    found = []
    for operations, batch, cached, nodes, *_ in islice(cycle(rows), count):
        nodes = round(nodes * _LAYERS)
        compare = nodes * 0.4e-6
        found.append(Step(f"{operations} {batch} {cached}", nodes=nodes, device=_NODE * nodes, compare=compare))
    return found


class Simulation:
    """Plans of one strategy: each plan is a shape and a variant, the least recently used goes."""

    def __init__(self, world: World, plans: int = 8) -> None:
        self.world = world
        self.limit = plans
        self.resident: list[tuple[str, int]] = []
        self.now = 0.0

    def changed(self, step: Step) -> int | None:
        found = [variant for shape, variant in self.resident if shape == step.shape]
        if not found:
            return None
        return 0 if step.variant in found else step.differing

    def do(self, choice: Choice, step: Step) -> tuple[float, float]:
        """What it takes before the replay, and the replay itself."""
        key = step.shape, step.variant
        if choice is Choice.STREAM:
            return 0.0, self.world.streamed(step)
        before = 0.0
        if choice is Choice.UPDATE:
            old = next(plan for plan in self.resident if plan[0] == step.shape)
            self.resident.remove(old)
            before = self.world.updated(step)
        elif choice is Choice.BUILD:
            before = self.world.built(step)
        else:
            self.resident.remove(key)
        self.resident.append(key)
        del self.resident[: -self.limit]
        return before, self.world.replay(step)


def with_policy(world: World, steps: Sequence[Step], policy: Policy | None = None) -> list[float]:
    """The seconds of each step under a policy, which learns what things take."""
    simulation = Simulation(world)
    policy = policy or Policy(lambda: simulation.now, Costs())
    found = []
    for step in steps:
        changed = simulation.changed(step)
        deciding = world.deciding(step, changed)
        offer = Offer(step.shape, step.nodes, changed, can_stream=True, variant=step.variant)
        choice = policy.choose(offer)
        before, replay = simulation.do(choice, step)
        if choice in (Choice.UPDATE, Choice.BUILD):
            policy.note(choice, offer, before, step.differing if choice is Choice.UPDATE else None)
        policy.note(Choice.STREAM if choice is Choice.STREAM else Choice.REUSE, offer, replay)
        simulation.now += deciding + before + replay
        found.append(deciding + before + replay)
    return found


def pure(world: World, steps: Sequence[Step]) -> Iterator[tuple[str, list[float]]]:
    """What other strategies take, which need not decide: the stream always; a plan always, updated or built again."""
    yield "stream", [world.streamed(step) for step in steps]
    for name, way in (("update", Choice.UPDATE), ("build", Choice.BUILD)):
        simulation = Simulation(world)
        times = []
        for step in steps:
            changed = simulation.changed(step)
            choice = Choice.REUSE if changed == 0 else Choice.BUILD if changed is None else way
            before, replay = simulation.do(choice, step)
            times.append(before + replay + world.deciding(step, changed))
        yield name, times


def ratios(world: World, count: int = 20_000) -> dict[str, tuple[float, str, float]]:
    """For each trace: time over the best pure strategy's, which one that is, and the 99th percentile of a step."""
    found = {}
    for name, steps in traces(count).items():
        times = with_policy(world, steps)
        best, total = min(((key, sum(t)) for key, t in pure(world, steps)), key=lambda pair: pair[1])
        found[name] = sum(times) / total, best, sorted(times)[int(0.99 * len(times))]
    return found


if __name__ == "__main__":
    for label, world in (("H200", World()), ("build x100", World(build=1.5e-3))):
        for name, (ratio, best, p99) in ratios(world).items():
            print(f"{label:12} {name:32} {ratio:.4f} of {best:8} p99 {p99 * 1e3:.2f} ms")
    assert list(islice(iter(traces(2)), 1))
