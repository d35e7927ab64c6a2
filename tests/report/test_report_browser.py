"""The page in a real browser: it fits narrow screens, and saves its pictures."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument import default_instruments
from forerun.report import write_report
from forerun.support.diagnostics import ForerunError
from tests.report.browser import BROWSER, ask
from tests.report.test_report_page import Cut

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no browser")]

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dump")
    graph = decode_graph(LlamaConfig("a-model-with-a-long-name", 5, 8, 2, 1, 4, 16, 32, 64), context=16)
    with pytest.raises(ForerunError):
        PassManager(Pipeline([*Pipeline.parse("default"), Cut()]), default_instruments(folder)).run(graph)
    return write_report(folder).read_text(encoding="utf-8")


def test_no_page_scrolls_sideways(page, tmp_path):
    script = "return [innerWidth, document.documentElement.scrollWidth]"
    for width in (420, 360, 1280):
        inner, needed = ask(page, script, tmp_path, width)
        assert needed <= inner == width


def test_a_saved_picture_is_what_the_page_shows(page, tmp_path):
    script = """
        const picture = document.querySelectorAll(".picture")[3];
        const shown = [...picture.querySelectorAll(".node > text")].filter((text) => text.checkVisibility());
        const names = shown.map((text) => text.textContent);
        const button = picture.closest("figure").querySelector(".save");
        return [names, pictureAsSvg(picture), button.hidden, button.dataset.name];"""
    names, saved, hidden, file = ask(page, script, tmp_path)
    root = ET.fromstring(saved)
    assert [group.find(f"{SVG}text").text for group in root.iter(f"{SVG}g") if "data-n" in group.attrib] == names
    assert len(names) > 10
    assert any("blk.1 … " in (text.text or "") for text in root.iter(f"{SVG}text"))
    assert (hidden, file) == (False, "p2a-after.svg")
    assert {element.get("id") for element in root.iter(f"{SVG}marker")} >= {"full", "programmatic"}
