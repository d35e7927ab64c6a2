"""Captured graphs as folders: they come back as they were, and what is broken is refused with its place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from forerun.captured import CapturedGraph, load_capture, save_capture
from forerun.support.diagnostics import InvalidInput
from tests.captured.samples import chain, graphs


@given(graphs())
def test_a_folder_holds_all(graph: CapturedGraph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert load_capture(save_capture(graph, Path(folder, "new"))) == graph


def test_what_it_says() -> None:
    assert str(chain()) == "2 nodes (2 kernel), edges: 1 full; PTX of 2 nodes"
    assert str(CapturedGraph(())) == "0 nodes (), edges: none; PTX of 0 nodes"


def broken(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    place = save_capture(chain(), tmp_path / "capture")
    about = json.loads((place / "capture.json").read_text())
    change(about)
    (place / "capture.json").write_text(json.dumps(about))
    with pytest.raises(InvalidInput) as caught:
        load_capture(place)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(format="x"), "is not a captured graph"),
        (lambda a: a.update(version=2), "is not a captured graph"),
        (lambda a: a["edges"].append([0, 2, "full", 0, 0]), "is not an edge"),
        (lambda a: a["edges"].append([0, 1, "half", 0, 0]), "is not an edge"),
        (lambda a: a["edges"].append([0, 1, "full", 256, 0]), "is not an edge"),
        (lambda a: a["edges"].append([0, 1, "full", 0, -1]), "is not an edge"),
        (lambda a: a["edges"].append([0, True, "full", 0, 0]), "is not an edge"),
        (lambda a: a["nodes"][0].update(function=1), "'nodes[0].function': it is 1"),
        (lambda a: a["nodes"][0].update(grid=[1, 0, 1]), "three positive numbers"),
        (lambda a: a["nodes"][1].update(parameters=["?"]), "is not base64"),
        (lambda a: a["nodes"][1].update(parameters=["AAAA"]), "not those of the function"),
        (lambda a: a["nodes"][1].update(parameters=[]), "not those of the function"),
        (lambda a: a["nodes"][1].pop("parameters"), "not those of the function"),
        (lambda a: a["memory"].append(a["memory"][0]), "ranges overlap"),
        (lambda a: a["memory"][4].update(address=(1 << 64) - 1), "'memory[4].size': it is 65536"),
        (lambda a: a["functions"][0].update(parameters=[[0], 1]), "parameters[1]"),
        (lambda a: a["functions"][0].update(parameters=[[0]]), "offset and size"),
        (lambda a: a["functions"][0].update(text="0" * 32), "which is not there"),
        (lambda a: a["functions"][0].update(image="../../etc/passwd"), "is not a digest"),
        (lambda a: a["functions"][0].update(image="0" * 32), "No such file"),
        (lambda a: a.pop("nodes"), "'nodes'"),
    ],
)
def test_what_is_broken_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    assert message in broken(tmp_path, change)


def copying(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    """A change of a graph that has one copy of four bytes, the third node, with what it read."""

    def changed(about: dict[str, Any]) -> None:
        transfer = {"source": 8, "destination": 16, "width": 4, "rows": 1, "extent": 4, "value": 0, "element_size": 1}
        about["nodes"].append({"kind": "memcpy", "transfer": transfer})
        source = {"contents": "AAAAAA==", "writers": "program", "changed": False}
        about["host_sources"] = {"2": source}
        change(about)

    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a["host_sources"].update({"0": a["host_sources"].pop("2")}),
            "'host_sources.0': it is not the",
        ),
        (lambda a: a["host_sources"].update({"-1": a["host_sources"].pop("2")}), "it is not the number"),
        (lambda a: a["host_sources"].update({"9" * 99: a["host_sources"].pop("2")}), "it is not the number"),
        (lambda a: a["nodes"][2]["transfer"].update(extent=5), "it is not the number"),
        (lambda a: a["nodes"][2]["transfer"].pop("source"), "it is not the number"),
        (lambda a: a["nodes"][2]["transfer"].update(width=5, extent=5), "it has 4 bytes"),
        (lambda a: a["host_sources"]["2"].update(contents="?"), "is not base64"),
        (lambda a: a["host_sources"]["2"].update(contents="é"), "is not base64"),
        (lambda a: a["host_sources"]["2"].update(contents=7), "must be a string"),
        (lambda a: a["host_sources"]["2"].update(writers="everybody"), "it must be one of nobody, program"),
        (lambda a: a["host_sources"]["2"].update(changed=1), "must be true or false"),
        (lambda a: a.update(host_sources=[]), "must be an object"),
    ],
)
def test_broken_sources_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    assert message in broken(tmp_path, copying(change))


def test_a_text_that_was_changed_is_refused(tmp_path: Path) -> None:
    place = save_capture(chain(), tmp_path)
    text = next((place / "ptx").iterdir())
    text.write_text(text.read_text() + "// more\n")
    with pytest.raises(InvalidInput, match="was changed"):
        load_capture(place)


def test_what_is_no_folder_of_a_capture(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the captured graph"):
        load_capture(tmp_path)
