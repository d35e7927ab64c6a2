"""Folding: segments are all the names, in order, and repeated layers are found."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from forerun.report.fold import CHUNK, LONGEST_UNIT, UNFOLDED, fold, mask

LAYER = ["norm", "q", "k", "v", "rope", "attention", "out", "add"]


def model(layers: int, prefix: str = "") -> list[str]:
    inside = [f"{prefix}blk.{layer}.{name}" for layer in range(layers) for name in LAYER]
    return [f"{prefix}embed", *inside, f"{prefix}norm", f"{prefix}head"]


def test_each_layer_is_a_segment_with_its_name():
    segments = fold(model(30))
    assert [s.title for s in segments[:3]] == ["embed", "blk.0", "blk.1"]
    assert [len(s.nodes) for s in segments] == [1, *[len(LAYER)] * 30, 2]
    assert {s.run for s in segments[1:-1]} == {0}
    assert segments[0].run is None
    assert segments[7].label("blk.6.attention") == "attention"


def test_layers_of_several_steps_are_found_in_each_step():
    segments = fold([*model(8, "step.0."), *model(8, "step.1.")])
    layers = [s.title for s in segments if s.run is not None]
    assert layers == [f"step.{step}.blk.{layer}" for step in range(2) for layer in range(8)]
    assert len({s.run for s in segments if s.run is not None}) == 2


def test_names_without_a_common_prefix_are_folded_by_their_period():
    names = [f"{kernel}.{5 * layer + i}" for layer in range(20) for i, kernel in enumerate(["a", "b", "c", "d", "e"])]
    segments = fold(names)
    assert {len(s.nodes) for s in segments} == {10}  # a period of 5 is too short for a card
    assert segments[1].title == "repeat 2: a.10 … e.19"
    assert segments[1].label("a.10") == "a.10"


def test_fused_layers_are_cards_of_their_own():
    nodes = "qkv", "attention", "attn_residual", "ffn_act", "ffn_residual"
    segments = fold(["token_embd", *(f"blk.{layer}.{node}.fused" for layer in range(8) for node in nodes), "argmax"])
    assert [s.title for s in segments if s.run is not None] == [f"blk.{layer}" for layer in range(8)]


def test_a_small_graph_is_one_segment():
    assert [len(s.nodes) for s in fold(model(2))] == [19]


def test_a_long_graph_without_repeats_is_cut():
    names = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(100)]
    assert [len(s.nodes) for s in fold(names)] == [CHUNK, CHUNK, 20]


def test_no_names_no_segments():
    assert fold([]) == []


def test_mask_hides_every_number():
    assert mask("step.10.blk.3.q8_0") == "step.#.blk.#.q#_#"


@given(st.lists(st.sampled_from(["a", "b", "c.0.x", "c.1.x", "c.2.x", "d.7", "e.8"]), max_size=90))
def test_segments_are_all_names_in_order(stems):
    names = [f"{stem}#{i}" for i, stem in enumerate(stems)]
    segments = fold(names)
    assert [name for s in segments for name in s.nodes] == names
    event("folded" if any(s.run is not None for s in segments) else "not folded")
    for segment in segments:
        longest = LONGEST_UNIT if segment.run is not None else CHUNK
        assert 1 <= len(segment.nodes) <= max(longest, UNFOLDED)
        assert all(name.startswith(segment.prefix) for name in segment.nodes)
