"""Orders with the fewest splits, compared with all orders that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product

from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.types import DEVICE0, HOST, Place
from forerun.passes.splits.order import count_splits, fewest_splits

DEVICE1 = Place("device", 1)
Sources = Mapping[str, Sequence[str]]


def all_orders(names: Sequence[str], sources: Sources) -> Iterator[list[str]]:
    """Every order in which each node comes after its sources."""

    def extended(order: list[str]) -> Iterator[list[str]]:
        if len(order) == len(names):
            yield order
        for name in names:
            if name not in order and all(source in order for source in sources.get(name, ())):
                yield from extended([*order, name])

    yield from extended([])


def fewest_of_all(names: Sequence[str], sources: Sources, places: Mapping[str, Place | None]) -> int:
    """The fewest splits of any order, by going through all of them; what was done, and where, is all that matters."""

    @cache
    def fewest(done: frozenset[str], at: Place | None) -> int:
        if len(done) == len(names):
            return 0
        found = []
        for name in names:
            if name not in done and all(source in done for source in sources.get(name, ())):
                place = places[name]
                changes = place is not None and place != at
                found.append(changes + fewest(done | {name}, at if place is None else place))
        return min(found)

    return fewest(frozenset(), None)


def is_allowed(order: Sequence[str], names: Sequence[str], sources: Sources) -> bool:
    """Whether an order has all nodes, each after its sources."""
    position = {name: i for i, name in enumerate(order)}
    return sorted(order) == sorted(names) and all(
        position[source] < position[name] for name, found in sources.items() for source in found
    )


def all_sources(names: Sequence[str]) -> Iterator[Sources]:
    """Every set of dependencies between nodes that are in launch order."""
    pairs = [(u, v) for j, v in enumerate(names) for u in names[:j]]
    for chosen in product((False, True), repeat=len(pairs)):
        sources: dict[str, list[str]] = {}
        for (u, v), is_there in zip(pairs, chosen, strict=True):
            if is_there:
                sources.setdefault(v, []).append(u)
        yield sources


def test_the_two_oracles_agree() -> None:
    places = {"a": DEVICE0, "b": HOST, "c": None, "d": HOST}
    for sources in all_sources("abcd"):
        counted = min(count_splits(order, places) for order in all_orders("abcd", sources))
        assert counted == fewest_of_all("abcd", sources, places)


def test_with_two_places_it_is_exact_on_all_graphs_of_four_nodes() -> None:
    """64 sets of dependencies times 81 placements, with nodes that belong to any split."""
    tried = 0
    for sources in all_sources("abcd"):
        for chosen in product((DEVICE0, HOST, None), repeat=4):
            places = dict(zip("abcd", chosen, strict=True))
            order = fewest_splits("abcd", sources, places)
            assert is_allowed(order, "abcd", sources)
            assert count_splits(order, places) == fewest_of_all("abcd", sources, places), (sources, places)
            tried += 1
    assert tried == 64 * 81


@st.composite
def placed_dags(draw: st.DrawFn, kinds: Sequence[Place | None]) -> tuple[list[str], Sources, dict[str, Place | None]]:
    names = [f"n{i}" for i in range(draw(st.integers(1, 9)))]
    sources = {v: draw(st.lists(st.sampled_from(names[:j]), unique=True, max_size=2)) for j, v in enumerate(names) if j}
    return names, sources, {name: draw(st.sampled_from(kinds)) for name in names}


@given(placed_dags([DEVICE0, HOST, None]))
def test_with_two_places_it_is_exact(drawn: tuple[list[str], Sources, dict[str, Place | None]]) -> None:
    names, sources, places = drawn
    order = fewest_splits(names, sources, places)
    event(f"fewer: {count_splits(names, places) - count_splits(order, places)}")
    assert is_allowed(order, names, sources)
    assert count_splits(order, places) == fewest_of_all(names, sources, places)
    assert fewest_splits(order, sources, places) == order


@given(placed_dags([DEVICE0, DEVICE1, HOST, None]))
def test_with_three_places_it_keeps_its_bound(drawn: tuple[list[str], Sources, dict[str, Place | None]]) -> None:
    names, sources, places = drawn
    order = fewest_splits(names, sources, places)
    least = fewest_of_all(names, sources, places)
    event(f"more than the fewest: {count_splits(order, places) - least}")
    assert is_allowed(order, names, sources)
    assert least <= count_splits(order, places) <= 3 * least


def test_an_order_that_is_as_good_stays() -> None:
    places: dict[str, Place | None] = {"a": DEVICE0, "h": HOST, "b": DEVICE0}
    assert fewest_splits("hab", {"b": ["h"]}, places) == ["h", "a", "b"]
    assert fewest_splits("ahb", {"h": ["a"], "b": ["h"]}, places) == ["a", "h", "b"]


def test_many_nodes_take_no_time() -> None:
    """Twenty thousand nodes of two interleaved chains."""
    names = [f"n{i}" for i in range(20_000)]
    sources = {names[i]: [names[i - 2]] for i in range(2, len(names))}
    places: dict[str, Place | None] = {name: HOST if i % 4 == 1 else DEVICE0 for i, name in enumerate(names)}
    order = fewest_splits(names, sources, places)
    assert count_splits(order, places) < count_splits(names, places)
