"""Recorded runs: what is written, what is believed of it, and for which machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forerun.runtime.litmus import TESTS, Counts, Machine, Record, assumptions_from, read_record, record_as_json
from forerun.support.diagnostics import InvalidInput, Unsupported
from forerun.support.version import __version__
from tests.litmus.benches import MACHINE, as_expected

DATE = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def written(tmp_path):
    """Writes a record after a change of its JSON; returns the path."""

    def write(results=None, change=lambda data: None):
        data = record_as_json(Record(MACHINE, DATE, as_expected() if results is None else results))
        change(data)
        path = tmp_path / "litmus.json"
        path.write_text(json.dumps(data))
        return path

    return write


def test_what_a_record_holds():
    data = record_as_json(Record(MACHINE, DATE, as_expected()))
    assert data["machine"] == {"gpu": "NVIDIA Test GPU", "driver": "580.1", "capability": "9.0"}
    assert (data["forerun"], data["date"]) == (__version__, DATE)
    assert [test["test"] for test in data["tests"]] == list(TESTS)
    assert data["assumptions"]["H6"]["status"] == "granted"
    first = {key: value for key, value in data["tests"][1].items() if key != "definition"}
    assert first == {
        "test": "L1b",
        "what": "the same, nobody waits",
        "rule": "may",
        "verdict": "allowed, seen",
        "control_of": ["H6", "H8"],
        "runs": 1000,
        "violated": 1000,
        "foreign": 0,
    }


def test_a_record_comes_back(written):
    record = Record(MACHINE, DATE, as_expected(L16b=Counts(17, 3)))
    assert read_record(written(record.results)) == record


def test_assumptions_of_the_machine_that_it_was_recorded_on(written):
    assert assumptions_from(written(), MACHINE) == {"H6", "H8"}
    assert assumptions_from(written(as_expected(L7w=Counts(1000, 1))), MACHINE) == {"H6"}
    assert assumptions_from(written(as_expected(L9b=Counts(1000, 0), L7=Counts(10))), MACHINE) == frozenset()


@pytest.mark.parametrize("changed", [{"gpu": "NVIDIA Other"}, {"driver": "581.0"}])
def test_another_machine(written, changed):
    with pytest.raises(Unsupported, match=r"holds for NVIDIA Test GPU, driver 580\.1, not for") as caught:
        assumptions_from(written(), replace(MACHINE, **changed))
    assert "forerun litmus --output FILE" in caught.value.hint


def test_assumptions_are_decided_from_counts(written):
    """Not from what the file says of them."""

    def change(data):
        data["assumptions"]["H6"]["status"] = "granted"

    assert assumptions_from(written(as_expected(L5=Counts(1000, 1)), change), MACHINE) == {"H8"}


@pytest.mark.parametrize(("key", "value"), [("definition", "0" * 16), ("test", "L99")])
def test_a_test_that_is_another_today_did_not_run(written, key, value):
    def change(data):
        next(test for test in data["tests"] if test["test"] == "L5b")[key] = value

    path = written(change=change)
    assert "L5b" not in read_record(path).results
    assert assumptions_from(path, MACHINE) == {"H8"}


def damaged(change):
    return lambda data: change(data["tests"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(format="other"), "is not a file of recorded litmus tests"),
        (lambda data: data.pop("machine"), "'machine': it must be an object, and is missing"),
        (lambda data: data.update(tests=3), "'tests': it must be a list, not an integer"),
        (damaged(lambda test: test.pop("runs")), r"'tests\[0\].runs': it must be an integer, and is missing"),
        (damaged(lambda test: test.update(runs="many")), r"'tests\[0\].runs': it must be an integer, not a string"),
        (damaged(lambda test: test.update(violated=1001)), "counts of L1 are impossible"),
        (damaged(lambda test: test.update(foreign=-1)), r"'tests\[0\].foreign': it is -1"),
    ],
)
def test_what_is_no_record(written, change, message):
    with pytest.raises(InvalidInput, match=message):
        read_record(written(change=change))


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_record(tmp_path / "none.json")
    (tmp_path / "text").write_text("{")
    with pytest.raises(InvalidInput, match="is not JSON") as caught:
        read_record(tmp_path / "text")
    assert "forerun litmus --output FILE" in caught.value.hint


def test_the_recorded_run_on_an_h100_licenses_h6_and_h8_there() -> None:
    recorded = Path(__file__).parents[2] / "benchmarks" / "results" / "litmus_h100.json"
    machine = Machine("NVIDIA H100 80GB HBM3", "580.159.04", "9.0")
    assert assumptions_from(recorded, machine) == {"H6", "H8"}
