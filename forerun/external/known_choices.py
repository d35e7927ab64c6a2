"""What was measured before of a captured graph on this GPU, in the user's cache folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from forerun.captured.graph import CapturedGraph
from forerun.external.choices import TARGETS, TRIGGERS, Choice
from forerun.external.search import Search
from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.toolchain.cache import cache_at, key_of
from forerun.support.diagnostics import InvalidInput
from forerun.support.json_reader import JsonObject, parse_json

__all__ = ["KnownChoices"]


@dataclass(frozen=True, slots=True)
class KnownChoices:
    """The place in the cache for what is measured of a graph.

    Attributes:
        key: Made from what the time depends on: GPU and driver, code, launches, edges. Addresses do not count.
    """

    key: str

    @classmethod
    def of(cls, graph: CapturedGraph) -> KnownChoices:
        """The place for a graph."""
        functions = [[one.name, one.text or one.image] for one in graph.functions]
        nodes = [[one.kind, one.function, *one.grid, *one.block, one.shared_bytes] for one in graph.nodes]
        edges = [[one.source, one.target, one.kind, one.from_port] for one in graph.edges]
        about = json.dumps([dict(graph.machine), functions, nodes, edges], sort_keys=True)
        return cls(key_of("choices", about))

    def read(self, functions: Collection[int]) -> Search | None:
        """What was measured, for these functions; ``None`` if nothing was."""
        kept = cache_at(cache_folder() / "captured").get(self.key)
        if kept is None:
            return None
        try:
            found = parse_json(kept, "what was measured of a captured graph")
            choices = {number: _choice(found.inside("choices").inside(str(number))) for number in functions}
            return Search(choices, found.number("seconds"), found.number("begin"), ())
        except InvalidInput:
            return None

    def write(self, found: Search) -> None:
        """Keep it."""
        choices = {str(number): {"target": one.target, "trigger": one.trigger} for number, one in found.choices.items()}
        about = {"choices": choices, "seconds": found.seconds, "begin": found.begin}
        cache_at(cache_folder() / "captured").put(self.key, json.dumps(about).encode())


def _choice(found: JsonObject) -> Choice:
    target, trigger = found.text("target"), found.text("trigger")
    for known in TARGETS:
        for where in TRIGGERS:
            if (known, where) == (target, trigger):
                return Choice(known, where)
    raise found.error(f"{target}, {trigger} is not a choice", "target")
