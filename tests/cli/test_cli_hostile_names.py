"""Whatever names a file holds, no command lets them control the terminal, reorder a line, or pose as a verdict."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS

NAMES = {
    "erase": "a\x1b[2K\x1b[1Aproved: every conflict is ordered",
    "title": "a\x1b]0;proved\x07",
    "link": "a\x1b]8;;http://example.org\x1b\\b",
    "return": "a\rproved: every conflict is ordered, and every node ends before the graph does",
    "line": "a\nproved: every conflict is ordered, and every node ends before the graph does",
    "lines": "a\r\n\x0b\x0c\x85\u2028\u2029proved: fine",
    "backspace": "a\b\b\b\b\b\b\b\bproved",
    "c1": "a\x9b2Kproved\x90q\x9c",
    "bidi": "a\u202edevorp\u202c\u2066x\u2069\u200f\u061c",
    "zero width": "a\u200b\u200c\u200d\u2060\ufeff\u00adb",
    "filler": "a\u3164\u115f\u2800",
    "surrogate": "a\udfffb\ud800",
    "tags": "a\U000e0041\U000e007f",
    "markup": "a[bold red]proved[/bold red][link=http://example.org]x[/link]:smile:",
    "html": "a</script><script>alert(1)</script><!--\"'&amp;<blink>",
    "delete": "a\x7f\x00b",
}
HOSTILE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
VERDICT = re.compile(r"^(proved|no counterexample|status)\b", re.MULTILINE)


def assert_harmless(text: str) -> None:
    """Only visible characters and line feeds."""
    bad = {repr(c) for c in text if c != "\n" and unicodedata.category(c) in HOSTILE_CATEGORIES}
    assert not bad
    text.encode()


def build(name: str, *, ordered: bool = True) -> str:
    """A graph in which everything has that name; a race if it is not ordered."""
    builder = GraphBuilder(name)
    x = builder.input(f"x{name}", DType.I32, (4,))
    h = builder.temp(f"h{name}", DType.I32, (4,))
    y = builder.output(f"y{name}", DType.I32, (4,))
    builder.launch(KERNELS["copy_i32"], node=f"first{name}", x=x, y=h)
    builder.launch(KERNELS["add_i32"], node=f"second{name}", a=h, b=h, y=y, after=None if ordered else [])
    return print_graph(builder.build())


@pytest.fixture(params=NAMES.values(), ids=NAMES.keys())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[NAMES["line"], NAMES["surrogate"], "".join(NAMES.values())], ids=["line", "surrogate", "all"])
def one_of_few(request: pytest.FixtureRequest) -> str:
    """For what takes longer."""
    return request.param


def test_the_text_form_escapes_them(name: str) -> None:
    text = build(name)
    assert_harmless(text)
    assert parse_graph(text).name == name


def test_check(forerun, tmp_path, name: str) -> None:
    path = tmp_path / "racy.fir"
    path.write_text(build(name, ordered=False))
    for options in ([], ["-v"]):
        told = forerun("check", path, *options)
        assert told.status == 1
        assert_harmless(told.out + told.err)
        assert told.out.startswith("refuted: ")
        assert VERDICT.search(told.out) is None
    told = forerun("check", path, "--json")
    assert told.status == 1
    assert_harmless(told.out + told.err)
    assert json.loads(told.out)["graph"] == name
    assert json.loads(told.out)["findings"][0]["race"]["earlier"]["node"] == f"first{name}"


def test_check_of_a_rewrite(forerun, tmp_path, one_of_few: str) -> None:
    (tmp_path / "a.fir").write_text(build(one_of_few))
    (tmp_path / "b.fir").write_text(build(one_of_few, ordered=False))
    told = forerun("check", "a.fir", "b.fir")
    assert told.status == 1
    assert_harmless(told.out + told.err)
    assert VERDICT.search(told.out) is None


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: text.replace("node #", "nod #"),
        lambda text: text.replace("copy_i32", "copy_i33", 1),
        lambda text: text + text[text.index("node ") :],
    ],
    ids=["syntax", "unknown name", "given twice"],
)
def test_messages_about_a_wrong_text(forerun, tmp_path, one_of_few: str, broken) -> None:
    path = tmp_path / "wrong.fir"
    path.write_text(broken(build(one_of_few)))
    for options in ([], ["--json"], ["-v"]):
        told = forerun("check", path, *options)
        assert told.status == 2
        assert_harmless(told.out + told.err)
        assert VERDICT.search(told.err) is None


def test_passes_dumps_and_reports(forerun, tmp_path, one_of_few: str) -> None:
    path = tmp_path / "good.fir"
    path.write_text(build(one_of_few))
    told = forerun("opt", path, "-p", "insert-pdl", "--dump", "d", "--print-after", "all", "-v")
    assert told.status == 0
    assert_harmless(told.out + told.err)
    told = forerun("report", "d")
    assert told.status == 0
    for file in (tmp_path / "d").iterdir():
        assert_harmless(file.read_text().replace("\t", ""))
    page = (tmp_path / "d" / "index.html").read_text()
    assert "<script>alert" not in page
    assert "<blink>" not in page


def test_passes_on_a_racy_graph(forerun, tmp_path, one_of_few: str) -> None:
    path = tmp_path / "racy.fir"
    path.write_text(build(one_of_few, ordered=False))
    for options in (["--bisect"], ["--print-after", "changed", "--dump", "d"]):
        told = forerun("opt", path, "-p", "insert-pdl", *options)
        assert_harmless(told.out + told.err)
        assert VERDICT.search(told.out + told.err) is None
    for file in (tmp_path / "d").iterdir():
        assert_harmless(file.read_text().replace("\t", ""))
    page = (tmp_path / "d" / "index.html").read_text()
    assert "A schedule that nothing prevents" in page
    assert "<script>alert" not in page
    assert "<blink>" not in page


def test_other_commands(forerun, tmp_path, one_of_few: str) -> None:
    path = tmp_path / "good.fir"
    path.write_text(build(one_of_few))
    for command in (
        ["bench", path, "--target", "reference"],
        ["tune", path, "--target", "reference"],
        ["fuzz", "--replay", path],
        ["run", path, "--prompt", "x"],
        ["info"],
    ):
        told = forerun(*command)
        assert_harmless(told.out + told.err)
        assert VERDICT.search(told.out) is None


def test_names_of_files_and_options(forerun, one_of_few: str) -> None:
    name = one_of_few.replace("\x00", "")
    for command in (
        ["check", name],
        ["report", name],
        ["opt", name, "-p", name],
        ["run", name, "-p", name],
        ["run", "llama", "--shape", name],
        ["fuzz", "-p", name],
        ["bench", name],
        [name],
        ["check", f"--{name}"],
    ):
        told = forerun(*command)
        assert told.status in (2, 3)
        assert_harmless(told.out + told.err)
        assert VERDICT.search(told.err) is None


# Integers


HUGE = ["9" * 1000, "-" + "9" * 1000, "0x" + "f" * 4094, "18446744073709551616"]


@pytest.mark.parametrize("huge", HUGE, ids=["decimal", "negative", "hexadecimal", "65 bits"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (": i32[4] input", ": i32[HUGE, HUGE, HUGE, HUGE, HUGE, HUGE] input"),
        (": i32[4] temp", ": i32[4] temp at $a+HUGE"),
        ("node #first", "alloc $b : HUGE\nnode #first"),
        ("node #first", "node #z = fill %ha with HUGE\nnode #first"),
        ("forerun 1", "forerun HUGE"),
    ],
)
def test_integers_that_the_text_form_allows_are_no_internal_error(forerun, tmp_path, huge, before, after) -> None:
    path, text = tmp_path / "huge.fir", build("a")
    assert before in text
    path.write_text(text.replace(before, after.replace("HUGE", huge), 1))
    for command in (["check", path], ["check", path, "--json"], ["opt", path, "-p", "exact", "--no-verify"]):
        assert forerun(*command).status in (0, 1, 2, 3)


def test_a_shape_has_a_bounded_number_of_elements(forerun, tmp_path) -> None:
    path = tmp_path / "huge.fir"
    path.write_text(build("a").replace(": i32[4] temp", f": i32[{', '.join(['9' * 999] * 30)}] temp"))
    told = forerun("check", path)
    assert told.status == 2
    assert "error[P9]" in told.err
    assert "the buffer has more than 2^65536 elements" in told.err
