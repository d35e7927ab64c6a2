"""docs/performance.md is made from the results in the tree."""

from __future__ import annotations

import json

from benchmarks import performance


def test_the_page_is_what_the_results_say() -> None:
    assert performance.PAGE.read_text() == performance.page(), "python -m benchmarks.performance writes the page"


def test_every_result_file_with_limits_holds_these_metrics() -> None:
    for section in performance.SECTIONS:
        path = performance.RESULTS / f"{section.name}.json"
        if section.limits and path.exists():
            metrics = json.loads(path.read_text())["metrics"]
            assert {name for name, _ in section.limits} <= metrics.keys(), section.name


def test_a_changed_result_changes_the_page(tmp_path, monkeypatch) -> None:
    result = json.loads((performance.RESULTS / "pipeline.json").read_text())
    result["metrics"]["pipeline.nodes_2000_s"]["value"] = 123.5
    (tmp_path / "pipeline.json").write_text(json.dumps(result))
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    assert "123.5" in performance.page()
