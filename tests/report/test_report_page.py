"""The page, from real dumps: whole, well-formed, self-contained, and of bounded size."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from forerun.frontends.decode import decode_graph, synthetic_decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument import default_instruments
from forerun.report import write_report
from forerun.report.diff import KEPT_CHARACTERS, SHOWN_LINES, draw_diff
from forerun.report.load import load_dump
from forerun.support.diagnostics import ForerunError, InvalidInput

VOID = {"br", "hr", "input", "meta"}


class Reader(HTMLParser):
    """Checks that elements nest, and collects what a test may want to know."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.ids = []
        self.references = []
        self.external = []
        self.policies = []
        self.tags = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        assert len(given) == len(attrs), f"<{tag}> has an attribute twice"
        if "id" in given:
            self.ids.append(given["id"])
        self.references += [given[key][1:] for key in ("href",) if given.get(key, "").startswith("#")]
        self.references += [given["data-like"]] if "data-like" in given else []
        self.references += re.findall(r"url\(#([\w-]+)\)", given.get("marker-end", ""))
        self.external += [v for k, v in attrs if k in ("src", "href", "action") and not v.startswith("#")]
        self.policies += [given["content"]] if given.get("http-equiv") == "Content-Security-Policy" else []
        self.external += [k for k in given if k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def dump(graph, folder, pipeline="exact"):
    return PassManager(pipeline, default_instruments(folder)).run(graph)


def tiny():
    return decode_graph(LlamaConfig("tiny", 3, 8, 2, 1, 4, 16, 32, 64), context=16)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    # Without full edges from hoist-loads there is something left to reduce, so that every pass changes the graph.
    dump(tiny(), folder, "infer-dependencies,insert-pdl,hoist-loads{full-edges=false},reduce-edges")
    return folder, write_report(folder).read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_refers_to_itself_only(small):
    reader = read(small[1])
    assert len(reader.ids) == len(set(reader.ids))
    assert set(reader.references) <= set(reader.ids)
    assert reader.external == []
    assert "link" not in reader.tags
    assert not re.search(r"@import|url\((?!#)", small[1])
    assert [value for value in reader.policies if value.startswith("default-src 'none';")]


def test_every_pass_has_a_row_a_section_and_pictures(small):
    page = small[1]
    for number, name in enumerate(["infer-dependencies", "insert-pdl", "hoist-loads", "reduce-edges"], 1):
        assert f'<a href="#pass-{number}">{name}' in page
        assert f'<section id="pass-{number}">' in page
    assert page.count('<figure class="before">') == page.count('<figure class="after">') == 4
    assert page.count("<b>Diff</b>") == 4


def test_numbers_of_the_page_are_those_of_the_summary(small):
    folder, page = small
    summary = json.loads((folder / "summary.json").read_text())
    text = " ".join(read(page).text)
    for record in summary["passes"]:
        for name, count in record["statistics"].items():
            assert f"{count:,} " in text
            assert name.replace("_", " ") in text
        for kind, count in record["dependencies"].items():
            assert not count or f"{count:,} {kind.replace('_', ' ')}" in text


def test_the_names_that_folded_cards_look_up_are_all_there(small):
    page = small[1]
    tables = json.loads(re.search(r'<script type="application/json" id="names">(.*?)</script>', page).group(1))
    assert tables == [list(tiny().nodes)]


@pytest.mark.slow
def test_two_thousand_nodes_give_a_page_that_opens(tmp_path):
    dump(synthetic_decode_graph(2000), tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    reader = read(page)
    assert len(page) < 5_000_000
    assert len(reader.tags) < 40_000
    assert "show all" in page


def test_the_page_can_go_elsewhere(small, tmp_path):
    path = write_report(small[0], tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == small[1]
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written_leaves_nothing(small, tmp_path):
    with pytest.raises(InvalidInput, match="cannot write"):
        write_report(small[0], tmp_path / "missing" / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_no_passes_show_the_graph(tmp_path):
    dump(tiny(), tmp_path, pipeline="")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert read(page).tags.count("figure") == 1
    assert "no passes" in page


def test_a_pass_that_changes_nothing_says_so(tmp_path):
    dump(tiny(), tmp_path, pipeline="reduce-edges")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "The graph stays as it is." in page
    assert "<figure" not in page


@dataclass(frozen=True)
class Cut(Pass):
    """Removes all dependencies."""

    name: ClassVar[str] = "cut"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for dependency in graph.dependencies:
            edit.remove_dependency(*dependency.pair)
        return edit.commit()


def test_a_failed_pass_is_shown_with_its_graph_and_the_error(tmp_path):
    with pytest.raises(ForerunError):
        dump(tiny(), tmp_path, Pipeline([Cut()]))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    text = " ".join(read(page).text)
    assert "✗ refuted" in text or "✗ failed" in text
    assert "the graph that it returned is refuted" in text
    assert page.count('<figure class="after">') == 1


def test_findings_are_shown_with_schedule_picture_and_repair(tmp_path):
    with pytest.raises(ForerunError):
        dump(tiny(), tmp_path, Pipeline([Cut()]))
    record = json.loads((tmp_path / "summary.json").read_text())["passes"][-1]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    read(page)
    drawn = page[page.index("What is wrong") : page.index("<b>Diff</b>")]
    assert '<a href="#pass-1">what is wrong</a>' in page
    assert drawn.count('class="finding"') == len(record["findings"]) == 20
    assert f"Not shown: {record['finding_count'] - 20} more." in drawn
    first = record["findings"][0]
    place = f"line {first['location']['line']}, column {first['location']['column']}"
    shown, _, folded = drawn.partition("</details>")
    assert f"01-cut.FAILED.fir, {place}" in shown
    text = " ".join(read(shown[shown.index("<summary") :]).text)
    for wanted in [*(step["text"] for step in first["witness"]["steps"]), first["witness"]["missing"]]:
        assert wanted in text
    assert first["repairs"][0]["sentence"] in text
    assert shown.count('class="access"') == 2
    assert shown.count('class="node kernel fault"') == 2
    assert shown.count('class="edge missing"') == 1
    assert folded.count('<details class="finding" open') == 0


def test_an_input_that_is_refused_is_shown_with_what_is_wrong(tmp_path):
    builder = GraphBuilder("racy")
    builder.output("o", DType.U32, (4,))
    for value, node in enumerate(("first", "second")):
        builder.fill("o", value, node=node)
    edit = builder.build().edit()
    edit.remove_dependency("first", "second")
    with pytest.raises(ForerunError, match="graph 'racy' is refuted"):
        dump(edit.commit(), tmp_path, "")
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"
    page = write_report(tmp_path).read_text(encoding="utf-8")
    reader = read(page)
    assert set(reader.references) <= set(reader.ids)
    assert "✗ failed" in page
    assert page.count('<details class="finding" open') == page.count("✓ then all is proved") == 1
    assert page.count('class="node other fault"') == 4  # in the finding, and in the graph


def test_findings_of_a_summary_cannot_inject_markup_or_break_the_page(tmp_path):
    with pytest.raises(ForerunError):
        dump(tiny(), tmp_path, Pipeline([Cut()]))
    evil = "</script><img src=x onerror=alert(1)>\x1b[2K\u202e"
    path = tmp_path / "summary.json"
    summary = json.loads(path.read_text())

    def spoiled(value):
        if isinstance(value, dict):
            return {key: spoiled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [spoiled(each) for each in value]
        return evil if isinstance(value, str) else value

    findings = summary["passes"][0]["findings"]
    summary["passes"][0]["findings"] = [spoiled(each) for each in findings] + [{"code": "X1", "message": evil}]
    path.write_text(json.dumps(summary))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    reader = read(page)
    assert "img" not in reader.tags
    assert not set("\x1b\u202e") & set(page)
    for broken in ({"message": "m"}, {"code": 1, "message": "m"}, {"code": "c", "message": "m", "witness": []}, 3):
        summary["passes"][0]["findings"] = [broken]
        path.write_text(json.dumps(summary))
        with pytest.raises(InvalidInput, match="findings"):
            write_report(tmp_path)


def test_what_is_drawn_where_all_dependencies_change_is_counted(small):
    section = small[1].split('<section id="pass-2">')[1].split("</section>")[0]
    kinds = json.loads((small[0] / "summary.json").read_text())["passes"][1]["dependencies"]
    assert f"changed: all {len(tiny()):,} nodes, all {kinds['programmatic']:,} dependencies" in section
    before, after = section.split('<figure class="after">')
    assert before.count('class="halo"') == after.count('class="halo"') > 10


def test_names_from_the_graph_cannot_inject_markup(tmp_path):
    evil = '"><img src=x onerror=alert(1)></script><script>'
    builder = GraphBuilder("evil")
    builder.output(evil, DType.U32, (4,))
    builder.fill(evil, node=evil)
    builder.fill(evil, 1, node="second")
    dump(builder.build(), tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    reader = read(page)
    assert "img" not in reader.tags
    assert reader.tags.count("script") == 2
    assert reader.external == []


# What a damaged dump gets


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no summary.json"),
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "it must be an object, not a list"),
        ('{"schema": 99}', "'schema' is 99, and this forerun reads 1"),
        ('{"schema": 1}', "'input': it must be an object, and is missing"),
        ('{"schema": 1, "input": {}, "graph": 3}', "'graph': it must be a string, not an integer"),
        (
            '{"schema": 1, "input": {}, "graph": "g", "pipeline": "", "status": "ok"}',
            "'input.nodes': it must be an integer, and is missing",
        ),
    ],
)
def test_a_damaged_summary_is_the_files_fault(tmp_path, content, message):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        load_dump(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match="does not exist"):
        load_dump(tmp_path / "nowhere")


def test_graphs_that_are_gone_or_damaged_leave_a_page_without_their_picture(small, tmp_path):
    for path in small[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "02-insert-pdl.fir").write_text("nonsense")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    read(page)
    assert "02-insert-pdl.fir cannot be read" in page
    assert page.count("<figure") == 4  # of the first and the last pass


def test_files_outside_the_folder_are_not_read(small, tmp_path):
    inside = tmp_path / "dump"
    inside.mkdir()
    (tmp_path / "secret.diff").write_text("secret")
    summary = json.loads((small[0] / "summary.json").read_text())
    summary["passes"][0]["files"]["diff"] = "../secret.diff"
    (inside / "summary.json").write_text(json.dumps(summary))
    assert "secret\n" not in write_report(inside).read_text(encoding="utf-8")


# Diffs


def test_a_diff_is_coloured_and_counted():
    drawn = draw_diff("--- a\n+++ b\n@@ -1 +1 @@\n-old <b>\n+new\n same\n", "x.diff")
    assert '<span class="del">-old &lt;b&gt;\n</span>' in drawn
    assert '<span class="add">+new\n</span>' in drawn
    assert '<span class="hunk">@@' in drawn
    assert "+1 \N{MINUS SIGN}1 lines" in drawn
    assert "--- a" not in drawn


def test_a_long_diff_unfolds():
    drawn = draw_diff("\n".join(f"+line {i}" for i in range(1000)), "x.diff")
    first, _, rest = drawn.partition("show all 1,000 lines")
    assert first.count('class="add"') == SHOWN_LINES
    assert rest.count('class="add"') == 1000 - SHOWN_LINES


def test_a_huge_diff_is_cut_and_names_its_file():
    drawn = draw_diff("\n".join(f"+line {i}" for i in range(200_000)), "x.diff")
    assert len(drawn) < 3 * KEPT_CHARACTERS
    assert "more lines are in x.diff" in drawn


def test_the_script_shortens_labels_as_the_drawing_does():
    from forerun.report.drawing import LONGEST_LABEL
    from forerun.report.markup import asset

    half = LONGEST_LABEL // 2
    line = f'label.length <= {LONGEST_LABEL} ? label : label.slice(0, {half}) + "…" + label.slice(-{half})'
    assert line in asset("page.js")
