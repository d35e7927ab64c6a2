"""Tunings that are found by themselves: for which graphs, GPUs and pipelines, and from which folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from forerun.compiler import pipeline_for, prepare
from forerun.passes.infra.known_tunings import SHIPPED, file_name, known_tuning
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.named_pipelines import name_of
from forerun.passes.infra.tuning import Choice, Tuning, groups_of, read_tuning, write_tuning
from forerun.runtime.device import DeviceTarget
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput
from tests.tuner.tuning_samples import decode

GPU, DRIVER = "made up", "13.0"


@dataclass(frozen=True)
class Here(ReferenceTarget, DeviceTarget):
    """The reference target, as if it were a GPU."""

    def identity(self) -> tuple[str, str]:
        return GPU, DRIVER


def groups() -> dict[str, list[str]]:
    return groups_of(PassManager("fast").run(decode()).graph)


def saved(folder: Path, name: str, count: int, **changes: str) -> Path:
    """A file with choices for some groups of the graph."""
    folder.mkdir(exist_ok=True, parents=True)
    choices = {group: Choice(trigger="end") for group in sorted(groups())[:count]}
    path = folder / f"{name}.json"
    write_tuning(replace(Tuning(GPU, DRIVER, choices), **changes), path)
    return path


def test_the_tuning_with_the_most_choices_is_taken_and_the_first_folder_wins(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    saved(theirs, "many", 3)
    few = saved(mine, "few", 1)
    folders = (mine, theirs, tmp_path / "none")
    assert known_tuning(groups(), GPU, DRIVER, folders) == (few, read_tuning(few))
    two = saved(mine, "two", 2)
    newer = saved(mine, "another_two", 2)
    os.utime(two, (1, 1))
    found = known_tuning(groups(), GPU, DRIVER, folders)
    assert found is not None
    assert found[0] == newer


@pytest.mark.parametrize(
    "changes", [{"gpu": "another"}, {"gpu": ""}, {"driver": "12.9"}, {"forerun": "0.0.1"}], ids=str
)
def test_what_was_measured_elsewhere_is_not(tmp_path: Path, changes: dict[str, str]) -> None:
    saved(tmp_path, "tuning", 2, **changes)
    assert known_tuning(groups(), GPU, DRIVER, [tmp_path]) is None


def test_nor_what_was_measured_for_other_shapes_nor_what_cannot_be_read(tmp_path: Path) -> None:
    saved(tmp_path, "tuning", 2)
    (tmp_path / "broken.json").write_text("{")
    assert known_tuning(sorted(groups())[1:], GPU, DRIVER, [tmp_path]) is None
    assert known_tuning(groups(), GPU, DRIVER, [tmp_path]) is not None
    most = saved(tmp_path / "most", "tuning", 3)
    assert known_tuning(sorted(groups())[1:], GPU, DRIVER, [most.parent]) is not None
    assert known_tuning(groups(), GPU, DRIVER, [saved(tmp_path / "empty", "tuning", 0).parent]) is None


def test_compile_applies_it_after_fast_alone(own_tunings: Path) -> None:
    path = saved(own_tunings, "tuning", 2)
    last = prepare(decode(), Here()).summary.passes[-1]
    assert last.name == "apply-tuning"
    assert any(f"tuned by {path.name}, measured on {GPU}" in remark for remark in last.remarks)
    for pipeline, tuning in (("exact", "auto"), ("", "auto"), ("fast", None)):
        names = [record.name for record in prepare(decode(), Here(), pipeline, tuning=tuning).summary.passes]
        assert "apply-tuning" not in names
    assert prepare(decode(), ReferenceTarget()).summary.passes[-1].name == "reduce-edges"


def test_where_nothing_was_measured_the_summary_says_so() -> None:
    last = prepare(decode(), Here()).summary.passes[-1]
    assert any("nothing was measured for such a graph on this GPU" in remark for remark in last.remarks)


def test_the_pipeline_is_that_of_the_target() -> None:
    assert name_of(str(pipeline_for(Here()))) == "fast"
    assert name_of(str(pipeline_for(ReferenceTarget()))) == "exact"
    assert len(pipeline_for(Here(), None)) == 0
    with pytest.raises(InvalidInput, match="no pass 'default'"):
        pipeline_for(Here(), "default")


def test_names_of_files_tell_graphs_and_gpus_apart() -> None:
    graph = decode()
    assert file_name(graph, GPU) == file_name(graph, GPU)
    assert file_name(graph, GPU).startswith("made-up-tiny-decode-")
    assert file_name(graph, "another") != file_name(graph, GPU)
    assert file_name(PassManager("fast").run(graph).graph, GPU) != file_name(graph, GPU)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_files_that_forerun_brings_say_where_they_were_measured(path: Path) -> None:
    tuning = read_tuning(path)
    assert tuning.gpu
    assert tuning.driver
    assert tuning.choices
