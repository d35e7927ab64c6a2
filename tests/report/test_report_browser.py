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
from forerun.report.bench import Bench, Kernel, draw_bench
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
        PassManager(Pipeline([*Pipeline.parse("exact"), Cut()]), default_instruments(folder)).run(graph)
    return write_report(folder).read_text(encoding="utf-8")


def test_no_page_scrolls_sideways(page, tmp_path):
    script = "return [innerWidth, document.documentElement.scrollWidth]"
    for width in (420, 360, 1280):
        inner, needed = ask(page, script, tmp_path, width)
        assert needed <= inner == width


def test_a_saved_step_is_drawn_once(page, tmp_path):
    kernels = tuple(Kernel(f"k{i}", 1, 10 << i, 0, 5, 1.0 + i, 1.0, 0.0, 0.0) for i in range(4))
    section = draw_bench(Bench("GPU", None, (), 0.0, 3000.0, kernels))
    script = """return [pictureAsSvg(document.querySelector("#bench .picture")), innerWidth,
        document.documentElement.scrollWidth];"""
    saved, inner, needed = ask(page.replace("</main>", f"{section}</main>"), script, tmp_path, 420)
    assert needed <= inner
    towers = [element for element in ET.fromstring(saved).iter(f"{SVG}svg") if element.get("class") == "tower"]
    assert [tower.find(f"{SVG}text").text for tower in towers] == ["1 k0", "2 k1", "3 k2", "4 k3"]


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
    assert (hidden, file) == (False, "p3a-after.svg"), "the graph after the third pass"
    assert {element.get("id") for element in root.iter(f"{SVG}marker")} >= {"full", "programmatic"}
