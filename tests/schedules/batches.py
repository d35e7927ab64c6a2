"""Ragged batches for tests, and attention by its definition."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from forerun.schedules.attention import Attention, AttentionBatch, attention_batch
from forerun.schedules.attention_runner import AttentionRunner
from forerun.schedules.cuts import Chunks, Invariant, Shares, Whole
from forerun.schedules.execution import Workspace
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import Schedule, capacity_for, make_schedule

FAMILY = Attention(heads=4, kv_heads=2, head_size=8, page_size=4, cache_pages=600)

POLICY = st.sampled_from(sorted(POLICIES))
CUTS = st.sampled_from([Whole(), Shares(), Chunks(4), Chunks(20), Invariant(64), Invariant(200)])
CTAS = st.integers(1, 9)


@st.composite
def lengths(draw, most=5, longest=400):
    """Query and KV lengths of some requests: decode, prefill, and requests without rows."""
    queries = draw(st.lists(st.one_of(st.just(1), st.integers(0, 150)), min_size=1, max_size=most))
    return queries, [q + draw(st.integers(0 if q else 1, longest)) for q in queries]


def adversary(choices):
    """Chooses by these numbers, again and again."""
    numbers = itertools.cycle(choices or [0])
    return lambda count: next(numbers) % count


ADVERSARY = st.lists(st.integers(0, 40), max_size=30).map(adversary)


@dataclass
class Values:
    """Queries and keys and values of each request, by position."""

    queries: list[np.ndarray]
    keys: list[np.ndarray]
    values: list[np.ndarray]


def random_values(query_lengths, kv_lengths, seed=0, family=FAMILY):
    chooser = np.random.default_rng(seed)

    def arrays(counts, heads):
        return [chooser.standard_normal((n, heads, family.head_size)).astype(np.float32) for n in counts]

    cache = arrays(kv_lengths, family.kv_heads), arrays(kv_lengths, family.kv_heads)
    return Values(arrays(query_lengths, family.heads), *cache)


def attention_by_definition(values, family=FAMILY):
    """Causal attention of all requests in f64, row by row and head by head."""
    rows = []
    for q, k, v in zip(values.queries, values.keys, values.values, strict=True):
        q, k, v = q.astype(np.float64), k.astype(np.float64), v.astype(np.float64)
        for row, head in itertools.product(range(len(q)), range(family.heads)):
            kv, sees = head // family.group, len(k) - len(q) + row + 1
            weights = np.exp(k[:sees, kv] @ q[row, head] / np.sqrt(family.head_size))
            rows.append(weights @ v[:sees, kv] / weights.sum())
    return np.array(rows).reshape(-1, family.heads, family.head_size)


@dataclass
class Case:
    """A batch in a poisoned memory, its values, and its schedule."""

    batch: AttentionBatch
    schedule: Schedule
    memory: tuple[np.ndarray, np.ndarray, np.ndarray]
    values: Values
    family: Attention

    def runner(self):
        return AttentionRunner(self.family, self.batch, *self.memory)

    def workspace(self):
        return Workspace(self.schedule.capacity, self.runner().slot_floats)

    @property
    def tasks(self):
        return self.family.tasks(self.batch)


def make_case(values, *, policy="prefix-sums", cuts=None, ctas=3, seed=0, family=FAMILY, capacity=None):
    """Pages lie anywhere; rows, positions and pages that no request has are NaN."""
    queries, lengths = [len(q) for q in values.queries], [len(k) for k in values.keys]
    needed = [-(-n // family.page_size) for n in lengths]
    pages = np.random.default_rng(seed).permutation(family.cache_pages)[: sum(needed)].tolist()
    if capacity is None:
        capacity = capacity_for(family, 8, max(1, sum(queries)) + 3, sum(needed) + 5, ctas, cuts)
    batch = attention_batch(family, capacity, queries, lengths, pages)
    q = np.full((capacity.rows, family.heads, family.head_size), np.nan, np.float32)
    q[: sum(queries)] = np.concatenate(values.queries)
    caches = []
    for parts in (values.keys, values.values):
        cache = np.full((family.cache_pages, family.page_size, *parts[0].shape[1:]), np.nan, np.float32)
        for first, part in zip(np.cumsum([0, *needed]), parts, strict=False):
            positions = np.arange(len(part))
            cache[np.array(pages, int)[first + positions // family.page_size], positions % family.page_size] = part
        caches.append(cache)
    schedule = make_schedule(family, batch, capacity, POLICIES[policy], cuts)
    return Case(batch, schedule, (q, *caches), values, family)


def copied(schedule):
    """A schedule whose arrays may be changed."""
    names = ("status", "counts", "pointers", "items", "counters")
    return replace(schedule, **{name: getattr(schedule, name).copy() for name in names})
