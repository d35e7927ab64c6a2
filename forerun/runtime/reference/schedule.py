"""Adversarial schedules as values: what happened, in order, so that it can be read, kept and replayed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from forerun.support.escaping import visible
from forerun.support.files import write_whole
from forerun.support.json_reader import JsonObject, read_json

__all__ = ["WHOLE", "Action", "Schedule"]

WHOLE = 0
"""The part of a store that is all of it; 1 and 2 are its first and second piece."""

_VERSION = 1
_LARGEST = (1 << 64) - 1
_KINDS = ("phase", "load", "flush", "run", "end")


class Action(NamedTuple):
    """One step of a schedule.

    Attributes:
        kind: ``phase`` (a phase executes: it reads, computes, and puts its writes into the node's store buffer),
            ``load`` (a read of an asynchronous phase happens), ``flush`` (a store, or a piece of one, becomes visible),
            ``run`` (a node that is not a kernel), or ``end`` (the graph ends while nodes that no sink waits for still
            run: the host reads the outputs here).
        node: The node, with the names of the nodes around it: ``loop/add``.
        phase: The phase, for ``phase``, ``load`` and ``flush``.
        number: Which of its reads (``load``) or writes (``flush``).
        part: Which piece of a store that becomes visible in two pieces, else :data:`WHOLE`.
    """

    kind: str
    node: str = ""
    phase: str = ""
    number: int = 0
    part: int = WHOLE

    def __str__(self) -> str:
        match self.kind:
            case "phase":
                return f"{self.node}: phase {self.phase}"
            case "load":
                return f"{self.node}: read {self.number} of {self.phase} happens"
            case "flush":
                piece = ("", ", first piece,", ", second piece,")[self.part]
                return f"{self.node}: write {self.number} of {self.phase}{piece} becomes visible"
            case "run":
                return f"{self.node}: runs"
            case _:
                return "the graph ends"


@dataclass(frozen=True)
class Schedule:
    """The order of events of one replay under adversarial scheduling.

    Printing it gives one numbered line an action. A schedule replays on the graph that it was recorded on, with the
    same inputs and state, to the same outputs, right or wrong.

    Attributes:
        graph: Name of the graph.
        seed: What it was drawn with.
        replay: Which replay of the program it was, from 0.
        strategy: How it was drawn.
        h6: Whether triggers held back the start of secondaries.
        actions: What happened, in order.

    Example:
        >>> schedule = Schedule("g", 1, 0, "uniform", False, (Action("run", "copy.0"), Action("end")))
        >>> print(schedule)
        schedule of graph g, replay 0, seed 1, strategy uniform
           0  copy.0: runs
           1  the graph ends
        >>> Schedule.from_json(schedule.to_json()) == schedule
        True
    """

    graph: str
    seed: int
    replay: int
    strategy: str
    h6: bool
    actions: tuple[Action, ...]

    def __str__(self) -> str:
        title = f"schedule of graph {self.graph}, replay {self.replay}, seed {self.seed}, strategy {self.strategy}"
        lines = [title + (", with H6" if self.h6 else "")]
        return "\n".join(map(visible, [*lines, *(f"{i:4}  {action}" for i, action in enumerate(self.actions))]))

    def __repr__(self) -> str:
        return f"<Schedule of {self.graph}: seed {self.seed}, replay {self.replay}, {len(self.actions)} actions>"

    def to_json(self) -> dict[str, Any]:
        """As JSON values; each action is a list without its trailing defaults."""
        return {
            "forerun_schedule": _VERSION,
            "graph": self.graph,
            "seed": self.seed,
            "replay": self.replay,
            "strategy": self.strategy,
            "h6": self.h6,
            "actions": [_packed(action) for action in self.actions],
        }

    @classmethod
    def from_json(cls, data: Any) -> Schedule:
        """The schedule that :meth:`to_json` wrote.

        Raises:
            InvalidInput: If it is not one.
        """
        return _schedule(JsonObject(data, "the schedule"))

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file.

        Raises:
            InvalidInput: If the file cannot be written.
        """
        write_whole(Path(path), json.dumps(self.to_json()) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Schedule:
        """Read it from a JSON file.

        Raises:
            InvalidInput: If the file cannot be read, or holds no schedule.
        """
        return _schedule(read_json(path, what="the schedule"))


def _packed(action: Action) -> list[str | int]:
    values: list[str | int] = list(action)
    while values and values[-1] in ("", WHOLE):
        values.pop()
    return values


def _schedule(file: JsonObject) -> Schedule:
    file.require("forerun_schedule", _VERSION, "a schedule that can be read")
    actions = tuple(_unpacked(file, number, packed) for number, packed in enumerate(file.list_of("actions", list)))
    return Schedule(
        file.text("graph"),
        file.integer("seed", least=-_LARGEST, most=_LARGEST),
        file.integer("replay"),
        file.text("strategy"),
        file.flag("h6"),
        actions,
    )


def _unpacked(file: JsonObject, number: int, packed: list[Any]) -> Action:
    fits = 1 <= len(packed) <= len(Action._fields)
    action = Action(*packed) if fits else Action("")
    if action.kind not in _KINDS or [type(value) for value in action] != [str, str, str, int, int]:
        raise file.error(f"there is no action {repr(packed)[:80]}", f"actions[{number}]")
    return action
