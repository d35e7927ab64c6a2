"""Dumps, summaries on disk, and reproducers."""

from __future__ import annotations

import json
from pathlib import Path

import infra_samples
import pytest
from infra_samples import Nothing, fills, lenient, overwritten, values

from forerun.ir.text import parse_graph, print_graph
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument import Dump, Reproducer, default_instruments
from forerun.passes.instrument.reproducer import Reproduction, parse_reproducer
from forerun.support.diagnostics import InvalidInput
from forerun.support.files import write_whole
from forerun.support.version import __version__


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def summary_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return found


def test_a_dump_has_each_graph_that_changed(tmp_path: Path) -> None:
    graph = fills(3)
    folder = tmp_path / "deep" / "dump"
    result = PassManager("test-add,test-nothing,test-drop{keep=1}", [Dump(folder)]).run(graph)
    files = ["00-input.fir", "01-test-add.diff", "01-test-add.fir", "03-test-drop.diff", "03-test-drop.fir"]
    assert names(folder) == [*files, "summary.json"]
    assert parse_graph((folder / "00-input.fir").read_text()) == graph
    assert parse_graph((folder / "03-test-drop.fir").read_text()) == result.graph
    assert values(parse_graph((folder / "01-test-add.fir").read_text())) == [1, 1, 1]
    assert "n2" in (folder / "03-test-drop.diff").read_text()
    assert result.summary.dump == folder
    assert sorted(result.summary.files) == [*files, "summary.json"]


def test_the_summary_is_stable_json(tmp_path: Path) -> None:
    result = PassManager("test-add{amount=2},test-nothing", lenient(tmp_path)).run(fills(2))
    found = summary_of(tmp_path)
    assert found == result.summary.to_json()
    assert list(found) == [
        "schema",
        "forerun",
        "graph",
        "pipeline",
        "status",
        "error",
        "seconds",
        "verification_seconds",
        "input",
        "passes",
        "files",
        "remarks",
        "warnings",
        "tolerance",
    ]
    counts = {"full": 1, "programmatic": 0, "launch_order": 0}
    given = {"nodes": 2, "dependencies": counts, "verdict": "proved", "findings": [], "finding_count": 0}
    assert found["input"] == given
    records = found["passes"]
    assert isinstance(records, list)
    first, second = records
    for record in records:
        del record["seconds"], record["verification_seconds"]
    assert first == {
        "ordinal": 1,
        "name": "test-add",
        "options": {"amount": 2},
        "text": "test-add{amount=2}",
        "nodes": 2,
        "dependencies": counts,
        "statistics": {},
        "applications": {"add": 2},
        "verdict": "unsupported",
        "changed": True,
        "remarks": [f"warning[C7]: node {n}: is not the node that it was: another value" for n in ("n0", "n1")],
        "tolerance": 0.0,
        "files": {"graph": "01-test-add.fir", "diff": "01-test-add.diff"},
        "findings": [],
        "finding_count": 0,
    }
    assert (second["verdict"], second["files"]) == ("unchanged", {"graph": "01-test-add.fir"})


def test_the_summary_has_the_findings_of_a_refuted_pass(tmp_path: Path) -> None:
    with pytest.raises(PassFailure):
        PassManager("test-drop", default_instruments(tmp_path)).run(overwritten())
    (record,) = summary_of(tmp_path)["passes"]  # type: ignore[misc]
    (finding,) = record["findings"]
    assert record["finding_count"] == 1
    assert (finding["code"], finding["severity"], finding["nodes"]) == ("R1", "error", ["first", "second"])
    assert finding["race"]["missing"] == finding["witness"]["missing"] == "C_first -> S_second"
    assert [step["event"] for step in finding["witness"]["steps"]] == ["S", "S", "access", "access"]
    assert finding["repairs"] == [{"sentence": "add a full dependency 'first' -> 'second'", "proved": True}]
    lines = (tmp_path / record["files"]["graph"]).read_text().splitlines()
    for place in finding["places"]:
        assert lines[place["line"] - 1][place["column"] - 1 :].startswith(f"#{place['node']} ")
    at = finding["location"]
    assert lines[at["line"] - 1][at["column"] - 1 :][: at["length"]] == at["detail"] == "%o"


def test_the_summary_has_what_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(PassFailure):
        PassManager("test-reverse", default_instruments(tmp_path)).run(fills(3))
    (record,) = summary_of(tmp_path)["passes"]  # type: ignore[misc]
    assert record["finding_count"] == len(record["findings"]) > 0
    finding = record["findings"][0]
    assert (finding["code"], finding["race"], finding["witness"], finding["repairs"]) == ("G3", None, None, [])
    assert finding["location"]["line"] > 1


def test_a_failed_pass_leaves_its_graph(tmp_path: Path) -> None:
    with pytest.raises(PassFailure):
        PassManager("test-nothing,test-add,test-reverse,test-add", lenient(tmp_path)).run(fills(3))
    assert names(tmp_path) == [
        "00-input.fir",
        "02-test-add.diff",
        "02-test-add.fir",
        "03-test-reverse.FAILED.fir",
        "03-test-reverse.diff",
        "03-test-reverse.reproducer.fir",
        "summary.json",
    ]
    found = summary_of(tmp_path)
    assert (found["status"], found["error"]) == (
        "failed",
        "pass 3 of 4, test-reverse: it returned an invalid graph",
    )
    assert sorted(found["files"]) == names(tmp_path)  # type: ignore[call-overload]
    assert found["seconds"] >= sum(record["seconds"] for record in found["passes"]) > 0  # type: ignore[attr-defined,operator]
    verdicts = [record["verdict"] for record in found["passes"]]  # type: ignore[attr-defined]
    assert verdicts == ["unchanged", "unsupported", "failed"]


def test_a_pass_that_raises_leaves_no_graph(tmp_path: Path) -> None:
    with pytest.raises(PassFailure):
        PassManager("test-fail", [Dump(tmp_path)]).run(fills(3))
    assert names(tmp_path) == ["00-input.fir", "summary.json"]


def test_an_earlier_dump_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "07-mine.fir").write_text("mine")
    PassManager("test-add,test-add", [Dump(tmp_path)]).run(fills(2))
    PassManager("test-nothing", [Dump(tmp_path)]).run(fills(2))
    assert names(tmp_path) == ["00-input.fir", "07-mine.fir", "notes.txt", "summary.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": ["../victim.fir", 4, "keep.txt"]}'])
def test_a_strange_summary_deletes_nothing(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "dump"
    folder.mkdir()
    (tmp_path / "victim.fir").write_text("mine")
    (folder / "keep.txt").write_text("mine")
    (folder / "summary.json").write_text(content)
    PassManager("test-nothing", [Dump(folder)]).run(fills(2))
    assert (tmp_path / "victim.fir").exists()
    assert (folder / "keep.txt").exists()
    assert summary_of(folder)["status"] == "ok"


def test_many_passes_sort_by_name(tmp_path: Path) -> None:
    PassManager(Pipeline([Nothing()] * 99), [Dump(tmp_path / "a")]).run(fills(1))
    PassManager(Pipeline([Nothing()] * 100), [Dump(tmp_path / "b")]).run(fills(1))
    assert names(tmp_path / "a")[0] == "00-input.fir"
    assert names(tmp_path / "b")[0] == "000-input.fir"


def test_an_unwritable_folder_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InvalidInput) as caught:
            PassManager("test-fail", default_instruments(folder)).run(fills(2))
        assert caught.value.message.startswith(f"cannot write to folder '{folder}': ")
        assert caught.value.hint == "name a folder that you can write to"


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    with pytest.raises(InvalidInput, match="cannot write"):
        write_whole(tmp_path / "missing" / "a.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInput, match="cannot write"):
        write_whole(tmp_path / "folder", "x")
    assert names(tmp_path) == ["a.txt", "folder"]


def test_a_reproducer_reproduces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bad graph.fir"
    with pytest.raises(PassFailure) as caught:
        PassManager("test-add,test-reverse", [Reproducer(path), *lenient()]).run(fills(3))
    text = path.read_text()
    found = parse_reproducer(text)
    assert found is not None
    assert (found.version, found.pipeline) == (__version__, "infra_samples:Reverse")
    assert found.error.startswith("pass 2 of 2, test-reverse: it returned an invalid graph\nerror[")
    assert found.rerun == f"forerun opt '{path}' --load {infra_samples.__file__}"
    assert f"rerun it:\n  {found.rerun}\n" in str(caught.value)
    graph = parse_graph(text)
    assert values(graph) == [1, 1, 1]
    with pytest.raises(PassFailure) as again:
        PassManager(found.pipeline).run(graph)
    assert [d.code for d in again.value.diagnostics] == [d.code for d in caught.value.diagnostics]


def test_a_reproducer_needs_a_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot write to folder"):
        PassManager("test-fail", [Reproducer(tmp_path / "file" / "r.fir")]).run(fills(2))
    with pytest.raises(PassFailure) as caught:
        PassManager("test-fail", [Reproducer()]).run(fills(2))
    assert "in one file" not in str(caught.value)


def test_a_reproducer_of_a_mutating_pass_has_the_graph_of_before(tmp_path: Path) -> None:
    graph = fills(3)
    pristine = print_graph(graph)
    with pytest.raises(PassFailure):
        PassManager("test-mutate", default_instruments(tmp_path)).run(graph)
    assert print_graph(graph) != pristine
    assert (tmp_path / "01-test-mutate.reproducer.fir").read_text().endswith(pristine)


def test_reproductions_come_back_from_their_text() -> None:
    known = Reproduction("1.2.3", 'a{b="c: d"}', "first\n  second\u2028third", "forerun opt 'x y.fir'")
    assert parse_reproducer(known.to_text() + "graph x {\n}\n") == Reproduction(
        "1.2.3", 'a{b="c: d"}', "first\n  second\nthird", "forerun opt 'x y.fir'"
    )
    assert parse_reproducer("graph x {\n}\n") is None
    assert parse_reproducer("") is None


def test_a_refuted_graph_is_dumped(tmp_path: Path) -> None:
    with pytest.raises(PassFailure):
        PassManager("test-drop", default_instruments(tmp_path)).run(overwritten())
    assert (tmp_path / "01-test-drop.FAILED.fir").exists()
    assert summary_of(tmp_path)["passes"][0]["verdict"] == "refuted"  # type: ignore[index]
