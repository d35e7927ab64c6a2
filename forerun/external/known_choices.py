"""What was measured before of a captured graph on this GPU, in the user's cache folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

from forerun.captured.graph import CapturedGraph
from forerun.external.choices import ORDERS, TARGETS, TRIGGERS, Choice
from forerun.external.search import Search
from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.toolchain.cache import cache_at, key_of
from forerun.support.diagnostics import InvalidInput
from forerun.support.json_reader import JsonObject, parse_json

__all__ = ["KnownChoices"]

Text = TypeVar("Text", bound=str)


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
        return cls(key_of("choices 2", about))

    def read(self, functions: Collection[int]) -> Search | None:
        """Read the stored search for these functions; ``None`` if there is none."""
        kept = cache_at(cache_folder() / "captured").get(self.key)
        if kept is None:
            return None
        try:
            found = parse_json(kept, "what was measured of a captured graph")
            known = found.inside("choices")
            choices = {number: _choice(known.inside(str(number))) for number in {*functions, *map(int, known)}}
            return Search(_one_of(ORDERS, found, "order"), choices, found.number("seconds"), found.number("begin"), ())
        except (InvalidInput, ValueError):
            return None

    def write(self, found: Search) -> None:
        """Keep it."""
        choices = {str(number): {"target": one.target, "trigger": one.trigger} for number, one in found.choices.items()}
        about = {"order": found.order, "choices": choices, "seconds": found.seconds, "begin": found.begin}
        cache_at(cache_folder() / "captured").put(self.key, json.dumps(about).encode())


def _choice(found: JsonObject) -> Choice:
    return Choice(_one_of(TARGETS, found, "target"), _one_of(TRIGGERS, found, "trigger"))


def _one_of(known: Collection[Text], found: JsonObject, name: str) -> Text:
    text = found.text(name)
    for one in known:
        if one == text:
            return one
    raise found.error(f"{text} is not one of {', '.join(known)}", name)
