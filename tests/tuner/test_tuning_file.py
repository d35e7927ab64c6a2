"""Tuning files, and the pass that applies them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forerun
from forerun.frontends.decode import generation_graph
from forerun.ir.graph import Graph
from forerun.ir.kernel import Phase, Trigger, Wait
from forerun.ir.nodes import KernelNode, Launch
from forerun.ir.semantics import check
from forerun.ir.types import BufferRole
from forerun.ir.walk import kernel_nodes
from forerun.kernels import attention_cluster, norm_gate_up, norm_head, norm_qkv_rope, projection_add
from forerun.passes.apply_tuning import ApplyTuning
from forerun.passes.infra.known_tunings import SHIPPED
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.tuning import Choice, Tuning, group_of, groups_of, read_tuning, write_tuning
from forerun.runtime.device import DeviceTarget
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import ForerunWarning, InvalidInput
from forerun.testing import assert_same_outputs
from tests.tuner.tuning_samples import TINY, decode, launched_grids, tuned_decode

positive = st.integers(1, 4096)
extents = st.tuples(positive, positive, positive)
choices = st.builds(
    Choice,
    launch=st.none() | st.builds(Launch, extents, extents, st.integers(0, 232448), st.none() | extents),
    trigger=st.sampled_from([None, "start", "after-wait", "end"]),
    hoist=st.booleans(),
    full_from=st.lists(st.sampled_from(["a#k(x: f32[4])", "b#k()"]), max_size=2, unique=True).map(tuple),
)
tunings = st.builds(
    Tuning,
    gpu=st.text(max_size=9),
    driver=st.sampled_from(["", "13.0"]),
    choices=st.dictionaries(st.sampled_from(["p:f.cu#k(x: f32[4, 2], y: bf16[8])", "k(x: f32[1])"]), choices),
    seconds=st.dictionaries(st.sampled_from(["untuned", "tuned"]), st.floats(0, 1)),
)


@given(tuning=tunings)
def test_files_hold_what_was_written(tuning: Tuning, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tuning") / "tuning.json"
    write_tuning(tuning, path)
    assert read_tuning(path) == tuning
    first = path.read_bytes()
    write_tuning(read_tuning(path), path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not JSON"),
        ("[]", "it must be an object, not a list"),
        ('{"schema": 2}', "is not a tuning file that can be read: its 'schema' is 2"),
        ('{"schema": 1}', "'choices': it must be a list, and is missing"),
        (
            '{"schema": 1, "gpu": "", "driver": "", "forerun": "", "choices": [{"kernel": "k"}]}',
            r"'choices\[0\].shape': it must be a string, and is missing",
        ),
        (
            '{"schema": 1, "gpu": "", "driver": "", "forerun": "",'
            ' "choices": [{"kernel": "k", "shape": "", "trigger": "soon"}]}',
            r"'choices\[0\].trigger': it is 'soon', and must be one of start, after-wait, end",
        ),
        (
            '{"schema": 1, "gpu": "", "driver": "", "forerun": "", "choices": [{"kernel": "k", "shape": "",'
            ' "launch": {"grid": [0, 1, 1], "block": [1, 1, 1], "shared_bytes": 0}}]}',
            r"'choices\[0\].launch.grid': it must be three integers from 1",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "tuning.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=expected):
        read_tuning(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_tuning(tmp_path / "none.json")
    with pytest.raises(InvalidInput, match="cannot write"):
        write_tuning(Tuning(), tmp_path / "none" / "tuning.json")


def tuning_of(graph: Graph) -> Tuning:
    """Another choice of every kind for all groups."""
    groups = sorted(groups_of(graph))
    choice = Choice(trigger="end", hoist=False, full_from=tuple(groups))
    nodes = {group_of(graph, node): node for _, node in kernel_nodes(graph)}
    return Tuning(
        "H100",
        "13.0",
        {g: replace(choice, launch=replace(nodes[g].launch, grid=(7, 1, 1))) for g in groups},
    )


def applied(graph: Graph, tuning: Tuning, tmp_path: Path, **options: str) -> tuple[Graph, list[str], dict[str, int]]:
    path = tmp_path / "tuning.json"
    write_tuning(tuning, path)
    result = PassManager(Pipeline((ApplyTuning(str(path), **options),))).run(graph)
    (record,) = result.summary.passes
    return result.graph, record.remarks, record.statistics


def test_choices_of_every_kind_are_applied(tmp_path: Path) -> None:
    start = tuned_decode()
    graph, remarks, counts = applied(start, tuning_of(start), tmp_path)
    assert remarks == []
    assert min(counts.values()) > 0
    assert set(launched_grids(graph).values()) == {7}
    assert not any(str(d.kind) == "programmatic" for d in graph.dependencies)
    for node in graph:
        assert isinstance(node, KernelNode)
        steps = [step for _, _, step in graph.kernels[node.kernel].steps()]
        kinds = [type(step) for step in steps]
        if Wait in kinds:
            assert Phase not in kinds[: kinds.index(Wait)]
        if Trigger in kinds:
            last = max(i for i, step in enumerate(steps) if isinstance(step, Phase) and step.writes)
            assert kinds.index(Trigger) == last - 1
    assert check(graph).status == check(start).status
    again, _, counts = applied(graph, tuning_of(start), tmp_path)
    assert again is graph
    assert set(counts.values()) == {0}


def test_launches_that_a_kernel_does_not_accept_are_left_out_with_a_remark(tmp_path: Path) -> None:
    start = tuned_decode()
    group = next(group for group in groups_of(start) if "gemv" in group)
    for launch, words in (
        (Launch((4, 1, 1), (48, 1, 1)), "48 threads a CTA, accepted are 32..1024 step 32"),
        (Launch((4, 1, 1), (64, 1, 1), cluster=(2, 1, 1)), "2 CTAs a cluster, accepted are 1"),
    ):
        graph, remarks, counts = applied(start, Tuning(choices={group: Choice(launch=launch)}), tmp_path)
        assert graph is start
        assert counts["launches_changed"] == 0
        assert len(remarks) == len(groups_of(start)[group])
        assert all(f"does not accept the tuned one: {words}" in remark for remark in remarks)


FUSED = [module.KERNEL for module in (attention_cluster, norm_gate_up, norm_head, norm_qkv_rope, projection_add)]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*llama*.json")), ids=lambda path: path.stem)
def test_the_launches_of_the_files_that_forerun_brings_are_accepted(path: Path) -> None:
    tuning = read_tuning(path)
    kernels = {f"{k.implementations[0].source}#{k.implementations[0].entry}": k for k in FUSED}
    chosen = {group: choice.launch for group, choice in tuning.choices.items() if choice.launch is not None}
    assert len(chosen) > 3
    for group, launch in chosen.items():
        accepted = kernels[group.partition("(")[0]].launches
        assert accepted is not None
        assert accepted.refusal(launch) == ""


def test_nothing_is_moved_but_what_is_chosen(tmp_path: Path) -> None:
    start = tuned_decode()
    group = next(group for group in groups_of(start) if "gemv" in group)
    graph, _, counts = applied(start, Tuning(choices={group: Choice(hoist=False)}), tmp_path)
    nodes = groups_of(start)[group]
    assert counts["hoists_undone"] == len(nodes) > 1
    for name in start.nodes:
        same = graph.nodes[name] == start.nodes[name]
        assert same == (name not in nodes)
    assert list(graph.dependencies) == list(start.dependencies)


def test_results_stay_the_same(tmp_path: Path) -> None:
    start = tuned_decode()
    graph, _, _ = applied(start, tuning_of(start), tmp_path)
    assert_same_outputs(start, graph, seeds=(1,))


def test_bodies_are_tuned_too(tmp_path: Path) -> None:
    graph = PassManager("exact").run(generation_graph(TINY, context=16, limit=4, eot=2)).graph
    tuned, remarks, counts = applied(graph, tuning_of(graph), tmp_path)
    assert remarks == []
    assert counts["launches_changed"] > 20
    body = tuned.nodes["decode"].bodies[0]  # type: ignore[union-attr]
    assert set(launched_grids(body).values()) == {7}


def test_other_gpus_drivers_and_versions_are_left_out_with_a_remark(tmp_path: Path) -> None:
    start = tuned_decode()
    tuning = tuning_of(start)
    for options, expected in (
        ({"gpu": "B200"}, "it was measured with GPU H100, and this is B200"),
        ({"gpu": "H100", "driver": "13.1"}, "with driver 13.0, and this is 13.1"),
    ):
        graph, (remark,), _ = applied(start, tuning, tmp_path, **options)
        assert graph is start
        assert expected in remark
    graph, (remark,), _ = applied(start, replace(tuning, forerun="0.0.1"), tmp_path)
    assert graph is start
    assert "with forerun 0.0.1" in remark
    assert applied(start, tuning, tmp_path, gpu="H100", driver="13.0")[0] is not start


def test_unknown_groups_are_left_out_with_a_remark(tmp_path: Path) -> None:
    start = tuned_decode()
    graph, (remark,), _ = applied(start, Tuning(choices={"k#k(x: f32[3])": Choice(hoist=False)}), tmp_path)
    assert graph is start
    assert "no node is of the group k#k(x: f32[3])" in remark


def test_compile_applies_a_file(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Elsewhere(ReferenceTarget, DeviceTarget):
        def identity(self) -> tuple[str, str]:
            return "B200", "13.0"

    path = tmp_path / "tuning.json"
    write_tuning(tuning_of(tuned_decode()), path)
    buffers = decode().buffers.values()
    weights = {b.name: np.zeros(b.shape, np.float32) for b in buffers if b.role is BufferRole.WEIGHT}
    with forerun.compile(decode(), weights=weights, tuning=path) as executable:
        assert set(launched_grids(executable.graph).values()) == {7}
        assert executable.summary.passes[-1].name == "apply-tuning"
    with pytest.warns(ForerunWarning, match="is left out: it was measured with GPU"):
        executable = forerun.compile(decode(), Elsewhere(), "exact", weights=weights, tuning=path)
    with executable:
        assert set(launched_grids(executable.graph).values()) != {7}
        assert "this is B200" in executable.summary.passes[-1].remarks[0]


def test_a_file_names_kernel_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    write_tuning(tuning_of(tuned_decode()), path)
    items = json.loads(path.read_text())["choices"]
    assert any(item["kernel"] == "forerun.kernels.cuda:gemv.cu#gemv" for item in items)
    assert any("w: f32[16, 8], x: f32[8], y: f32[16]" in item["shape"] for item in items)
