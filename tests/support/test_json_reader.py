"""JSON and files that somebody else wrote: whatever is wrong is bad input, with the place; nothing hangs or crashes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forerun.passes.infra.tuning import read_tuning
from forerun.report import SUMMARY_FILE, TIMELINE_FILE, write_report
from forerun.report.load import load_dump
from forerun.runtime.litmus import read_record
from forerun.runtime.reference.schedule import Schedule
from forerun.support.diagnostics import InvalidInput
from forerun.support.files import read_regular, write_whole
from forerun.support.json_reader import JsonObject, read_json

LITMUS = Path(__file__).parents[2] / "benchmarks" / "results" / "litmus_h100.json"
SUMMARY = {
    "schema": 1,
    "graph": "g",
    "pipeline": "p",
    "status": "ok",
    "error": "",
    "seconds": 1.5,
    "forerun": "1",
    "input": {"nodes": 1, "dependencies": {"full": 1}, "verdict": "proved"},
    "passes": [
        {
            "ordinal": 1,
            "name": "p",
            "text": "p",
            "seconds": 0.1,
            "verification_seconds": 0.1,
            "nodes": 1,
            "dependencies": {"full": 1},
            "statistics": {"s": 1},
            "verdict": "proved",
            "changed": True,
            "remarks": ["r"],
            "files": {"graph": "01-p.fir", "diff": "01-p.diff"},
        }
    ],
    "files": ["00-input.fir"],
    "remarks": ["r"],
}
TIMES = {
    "start": [0],
    "wait": [1],
    "trigger": [2],
    "end": [3],
    "sm": [0],
    "lane": 0,
    "share": 3,
    "gap": 0,
    "overlap": 0,
}
TIMELINE = {"format": "forerun timeline 1", "nanoseconds": 3, "nodes": [{"name": "n", "kernel": "k", **TIMES}]}
LAUNCH = {"grid": [1, 1, 1], "block": [1, 1, 1], "shared_bytes": 0, "cluster": [1, 1, 1]}
TUNING = {
    "schema": 1,
    "gpu": "G",
    "driver": "1",
    "forerun": "1",
    "seconds": {"tuned": 1.0},
    "choices": [{"kernel": "k", "shape": "", "launch": LAUNCH, "trigger": "end", "hoist": False, "full_from": ["k"]}],
}
SCHEDULE = {
    "forerun_schedule": 1,
    "graph": "g",
    "seed": 1,
    "replay": 0,
    "strategy": "uniform",
    "h6": False,
    "actions": [["run", "n"], ["flush", "n", "p", 0, 1], ["end"]],
}


def read_summary(path: Path) -> object:
    folder = path.with_suffix(".dump")
    folder.mkdir()
    os.replace(path, folder / SUMMARY_FILE)
    return write_report(folder)


def read_timeline(path: Path) -> object:
    folder = path.with_suffix(".dump")
    folder.mkdir()
    (folder / SUMMARY_FILE).write_text(json.dumps(SUMMARY))
    os.replace(path, folder / TIMELINE_FILE)
    return write_report(folder)


READERS: dict[str, tuple[Callable[[Path], object], Any]] = {
    "summary": (read_summary, SUMMARY),
    "timeline": (read_timeline, TIMELINE),
    "tuning": (read_tuning, TUNING),
    "schedule": (Schedule.load, SCHEDULE),
    "litmus": (read_record, json.loads(LITMUS.read_text()) | {"tests": json.loads(LITMUS.read_text())["tests"][:1]}),
}
TEXTS = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "not UTF-8": b'{"\xff": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf{}",
    "NaN": b'{"schema": NaN}',
    "infinite": b'{"schema": -Infinity}',
    "too large": b'{"schema": 1e999}',
    "many digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "twice": b'{"schema": 1, "schema": 1}',
    "zero": b"\x00",
}
WRONG = [None, True, 0, -1, 1 << 62, 1e300, -1.5, "", "x", [], [[]], [None], {}, {"x": None}, {"x": "y"}]


def changes(data: Any) -> list[tuple[str, Any]]:
    """All copies of the data with one value replaced by one of another kind, or left out."""
    found = []

    def visit(value: Any, place: str, put: Callable[[Any], Any]) -> None:
        found.extend((f"{place} = {wrong!r}", put(wrong)) for wrong in WRONG)
        if isinstance(value, dict):
            for key, inner in value.items():
                found.append((f"no {place}.{key}", put({k: v for k, v in value.items() if k != key})))
                visit(inner, f"{place}.{key}", lambda new, value=value, key=key: put({**value, key: new}))
        elif isinstance(value, list) and value:
            visit(value[0], f"{place}[0]", lambda new, value=value: put([new, *value[1:]]))

    visit(data, "", lambda new: new)
    return found


@pytest.mark.parametrize("reader", READERS)
def test_good_files_are_read(reader: str, tmp_path: Path) -> None:
    read, good = READERS[reader]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(good))
    assert read(path) is not None


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("reader", READERS)
def test_what_is_not_json_is_bad_input(reader: str, text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(InvalidInput, match=r"json"):
        READERS[reader][0](path)


@pytest.mark.parametrize("reader", READERS)
def test_a_wrong_value_at_any_place_is_bad_input_or_harmless(reader: str, tmp_path: Path) -> None:
    read, good = READERS[reader]
    refused = 0
    for number, (_, changed) in enumerate(changes(good)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(changed))
        try:
            read(path)
        except InvalidInput:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("reader", ["tuning", "schedule", "litmus"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "missing", "dangling link"])
def test_what_is_not_a_file_is_bad_input(reader: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "dangling link":
            path.symlink_to("nowhere")
    with pytest.raises(InvalidInput, match="cannot be read"):
        READERS[reader][0](path)


def test_places_are_told() -> None:
    file = JsonObject({"a": {"b": [{"c": 1}, {"c": "x"}]}}, "x.json", hint="do that")
    with pytest.raises(InvalidInput, match=r"x\.json: 'a\.b\[1\]\.c': it must be an integer, not a string") as caught:
        [each.integer("c") for each in file.inside("a").each("b")]
    assert caught.value.hint == "do that"
    with pytest.raises(InvalidInput, match="'a': it must be true or false, not an object"):
        file.flag("a")
    with pytest.raises(InvalidInput, match="'z': it must be a number, and is missing"):
        file.number("z")


# Folders that somebody else wrote


def told_by_report(folder: Path) -> str:
    """The page, or the message."""
    try:
        return write_report(folder).read_text()
    except InvalidInput as error:
        return error.message


@pytest.mark.parametrize("name", [SUMMARY_FILE, TIMELINE_FILE, "00-input.fir", "01-p.fir", "01-p.diff"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_dump_folder_opens_no_pipes_and_follows_no_links(name: str, kind: str, tmp_path: Path) -> None:
    folder, secret = tmp_path / "dump", tmp_path / "secret"
    folder.mkdir()
    secret.write_text(json.dumps(SUMMARY) if name == SUMMARY_FILE else "secret words")
    (folder / SUMMARY_FILE).write_text(json.dumps(SUMMARY))
    (folder / name).unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(folder / name)
        case "link":
            (folder / name).symlink_to(secret)
        case "folder":
            (folder / name).mkdir()
    told = told_by_report(folder)
    assert "secret words" not in told
    assert "cannot be read" in told or name.endswith(".fir")


@pytest.mark.parametrize("name", ["..", ".", "a\x00b", "../secret", "x" * 5000, "/etc/passwd"])
def test_names_of_files_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "dump").mkdir()
    (tmp_path / "secret").write_text("secret words")
    changed = json.loads(json.dumps(SUMMARY))
    changed["passes"][0]["files"] = {"graph": name, "diff": name}
    (tmp_path / "dump" / SUMMARY_FILE).write_text(json.dumps(changed))
    assert "secret words" not in told_by_report(tmp_path / "dump")
    assert load_dump(tmp_path / "dump").graph == "g"


# Writing


def test_a_file_is_written_whole_by_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    texts = [str(number) * 50_000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(path, text)) for text in texts for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / "a.txt").symlink_to(tmp_path / "other")
    write_whole(tmp_path / "a.txt", "new")
    assert (tmp_path / "other").read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_sizes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", most=5) == b"12345"
    with pytest.raises(InvalidInput, match="more than 4 bytes"):
        read_regular(tmp_path / "a", most=4)
    with pytest.raises(InvalidInput, match="it is a device"):
        read_json("/dev/zero")
