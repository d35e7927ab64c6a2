"""The message of a failure answers five questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import infra_samples
import pytest
from infra_samples import fills, lenient, overwritten

from forerun.ir.graph import Dependency, Graph
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument import Dump
from forerun.support.diagnostics import Diagnostic, InvalidInput, Location

LOAD = f"--load {infra_samples.__file__}"


def message(graph: Graph, pipeline: str | Pipeline, dump: Path | None = None) -> str:
    with pytest.raises(PassFailure) as caught:
        PassManager(pipeline, lenient(dump)).run(graph)
    return str(caught.value)


def test_an_invalid_graph(tmp_path: Path) -> None:
    assert (
        message(fills(3), "test-add{amount=2},test-nothing,test-reverse", tmp_path)
        == f"""\
pass 3 of 3, test-reverse: it returned an invalid graph

what is wrong:
  error[G3]: dependency n2 -> n0: cycle of 3: #n0 -> #n1 -> #n2 -> #n0
    --> fills:9:9
     |
   8 | node #n0 = fill %o0 with 2
   9 |   after #n2 full
     |         ^^^
  10 | node #n1 = fill %o1 with 2
     = hint: remove one of these dependencies

what changed:
  --- before
  +++ after
  @@ -7,4 +7,5 @@ node n0
{"   "}
   node #n0 = fill %o0 with 2
  +  after #n2 full
   node #n1 = fill %o1 with 2
     after #n0 full

rerun it:
  forerun opt {tmp_path}/01-test-add.fir {LOAD} --pipeline infra_samples:Reverse

dumps:
  {tmp_path}
  {tmp_path}/03-test-reverse.reproducer.fir: the pass and the graph that it got, in one file"""
    )


def test_a_refuted_graph() -> None:
    assert (
        message(overwritten(), "test-drop{keep=0}")
        == f"""\
pass 1 of 1, test-drop: the graph that it returned is refuted

what is wrong:
  error[R1]: node second: WAW race: writes %o bytes [0, 16), before its wait, while 'first', which writes bytes \
[0, 16) through %o, may not be complete
   --> overwritten:7:21
    |
  6 | node #first = fill %o with 1
  7 | node #second = fill %o with 2
    |                     ^^
    = hint: add a full dependency 'first' -> 'second'
  witness: a schedule that nothing prevents:
      1  'first' starts
      2  'second' starts
  >   3  'second' writes %o bytes [0, 16)
  >   4  'first' writes %o bytes [0, 16)
  missing: C_first -> S_second
  because no dependency leads from 'first' to 'second'
  each of these was tried, and repairs it:
    1. add a full dependency 'first' -> 'second' (then all is proved)

what changed:
  --- before
  +++ after
  @@ -6,3 +6,2 @@ node second
   node #first = fill %o with 1
   node #second = fill %o with 2
  -  after #first full

rerun it:
  forerun opt INPUT.fir {LOAD} --pipeline infra_samples:Drop --dump DIR

dumps:
  none; --dump DIR (in Python: dump="DIR") writes them"""
    )


def test_an_exception(tmp_path: Path) -> None:
    line = next(i for i, text in enumerate(Path(infra_samples.__file__).read_text().splitlines(), 1) if "lost" in text)
    assert (
        message(fills(1), "test-fail,test-add", tmp_path)
        == f"""\
pass 1 of 2, test-fail: it raised KeyError: 'lost'

what is wrong:
  KeyError: 'lost'
    at apply, "{infra_samples.__file__}", line {line}

what changed:
  nothing: it returned no graph

rerun it:
  forerun opt {tmp_path}/00-input.fir {LOAD} --pipeline infra_samples:Fail

dumps:
  {tmp_path}
  {tmp_path}/01-test-fail.reproducer.fir: the pass and the graph that it got, in one file"""
    )


def test_a_pass_that_is_not_honest() -> None:
    text = message(fills(1), "test-lie{how=copy-and-count}")
    assert "what is wrong:\n  it counted 2 changes, but changed nothing\n  hint: return edit.commit();" in text
    assert "what changed:\n  nothing: it returned an equal graph\n" in text


def test_commands_are_quoted_for_the_shell(tmp_path: Path) -> None:
    text = message(fills(1), "test-fail{how=none}", tmp_path / "my dumps")
    assert f"forerun opt '{tmp_path}/my dumps/00-input.fir' {LOAD} --pipeline 'infra_samples:Fail{{how=none}}'" in text


def test_installed_passes_need_not_be_loaded() -> None:
    text = message(overwritten(), "infer-dependencies,test-drop")
    assert f"forerun opt INPUT.fir {LOAD} --pipeline infer-dependencies,infra_samples:Drop --dump DIR" in text


@dataclass(frozen=True)
class Spoil(Pass):
    """Adds backward dependencies, or complains of places."""

    name: ClassVar[str] = "test-spoil"

    where: str = option("nodes", help="what it complains of")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        if self.where == "text":
            place = Location("text", "notes.txt", 3, 7)
            raise InvalidInput("the notes are wrong", (Diagnostic("X1", "a word is missing", place),))
        if self.where == "before":
            raise InvalidInput("not this one", (Diagnostic("X2", "too small", Location("node", "n1")),), hint="grow it")
        names = list(graph.nodes)
        edit = graph.edit()
        for name in names[:-1]:
            edit.set_dependency(Dependency(names[-1], name))
        return edit.commit()


def test_long_differences_are_cut(tmp_path: Path) -> None:
    text = message(fills(60), Pipeline([Spoil()]), tmp_path)
    changed = text.split("what changed:\n")[1].split("\n\nrerun")[0].splitlines()
    assert len(changed) == 41
    assert changed[-1].endswith(f" more lines, in {tmp_path}/01-test-spoil.diff")
    assert "..." not in message(fills(5), Pipeline([Spoil()])).split("what changed:\n")[1].split("\n\nrerun")[0]
    undumped = message(fills(60), Pipeline([Spoil()])).split("\n\nrerun")[0]
    assert undumped.endswith(" more lines")


def test_many_diagnostics_are_cut() -> None:
    @dataclass(frozen=True)
    class Litter(Pass):
        """Finds fault with every node."""

        name: ClassVar[str] = "test-litter"

        def apply(self, graph: Graph, context: PassContext) -> Graph:
            found = tuple(Diagnostic("X3", "is wrong", Location("node", name)) for name in graph.nodes)
            raise InvalidInput("all is wrong", found)

    text = message(fills(20), Pipeline([Litter()]))
    assert text.count("error[X3]") == 8
    assert "\n  ... and 12 more\n" in text


def test_diagnostics_of_a_pass_that_raised_are_drawn_in_its_input() -> None:
    text = message(fills(2), Pipeline([Spoil("before")]))
    assert "pass 1 of 1, " in text
    assert "node #n1 = fill %o1 with 0" in text
    assert "hint: grow it" in text


def test_diagnostics_of_other_texts_are_not_drawn_in_the_graph() -> None:
    text = message(fills(2), Pipeline([Spoil("text")]))
    assert "what is wrong:\n  error[X1]: notes.txt:3:7: a word is missing\n\n" in text


def test_a_misused_edit_is_located() -> None:
    @dataclass(frozen=True)
    class Misuse(Pass):
        """Removes a node that does not exist."""

        name: ClassVar[str] = "test-misuse"

        def apply(self, graph: Graph, context: PassContext) -> Graph:
            edit = graph.edit()
            edit.remove_node("n8")
            return edit.commit()

    text = message(fills(2), Pipeline([Misuse()]))
    assert "what is wrong:\n  edit: no node 'n8'\n  hint: " in text
    assert f'at apply, "{__file__}", line ' in text


def test_a_failure_as_data(tmp_path: Path) -> None:
    with pytest.raises(PassFailure) as caught:
        PassManager("test-nothing,test-fail{how=none}", [Dump(tmp_path)]).run(fills(1))
    failure = caught.value
    assert (failure.ordinal, failure.pass_text, failure.exit_status) == (2, "test-fail{how=none}", 4)
    assert failure.message.startswith(failure.headline)
