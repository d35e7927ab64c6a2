"""Certificates: every rule has a rewrite that breaks it, and nothing that is not understood is proved."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from forerun.ir.refinement.certificate import RULES
from forerun.ir.semantics import Verdict, check
from forerun.ir.text import parse_graph
from tests.ir.refinement.test_fused import WRONG as FUSED
from tests.ir.refinement.test_relocation import WRONG as MISPLACED
from tests.ir.semantics.rewrites import BASE, SWAPPED_FILLS, Edit, codes, verdict_of


@dataclass(frozen=True)
class Wrong:
    """A rewrite, the code that finds it, and the verdict."""

    code: str
    edits: tuple[Edit, ...]
    said: str
    status: str = "refuted"


WRONG = {
    "a write is lost": Wrong(
        "C1",
        (("node #clear = fill %z with 0\n", ""), ("  after #clear full\n", "")),
        r"the write of 'clear' to %z bytes \[0, 16\) is lost",
    ),
    "a node writes elsewhere": Wrong(
        "C1",
        (("node #clear = fill %z ", "node #clear = fill %z[0:2] "), ("#mark = fill %z[0:1]", "#mark = fill %z[1:2]")),
        "the write of 'mark' .* is lost",
    ),
    "a temporary that is read is lost": Wrong(
        "C1",
        (("node #patch = fill %b[0:1] with 5\n  after #after full\n", ""), ("after #patch full", "after #after full")),
        r"the write of 'patch' to %b bytes \[0, 4\) is lost",
    ),
    "a temporary that nobody reads any more is lost": Wrong(
        "C7",
        (("node #first = @make(x=%x, y=%a)", "node #first = @make(x=%x, y=%b)"), ("x=%a, s", "x=%b, s")),
        "first: .*: another arguments",
        "unsupported",
    ),
    "a host call is lost": Wrong(
        "C1",
        (('node #tell_again = host "builtins:print" reads %h\n  after #tell full\n', ""),),
        "what host call 'tell_again' does is lost",
    ),
    "a write is new": Wrong(
        "C2",
        (("node #mark", "node #late = fill %s[0:1] with 7\n  after #second full\nnode #mark"),),
        "the write of 'late' to %s .* is new",
    ),
    "two writes change places": Wrong(
        "C3",
        SWAPPED_FILLS,
        r"writes %z bytes \[0, 16\) after 'mark', no longer before it",
    ),
    "phases change places": Wrong(
        "C4",
        (
            ("    phase put writes s[0:4]\n    barrier\n", "    barrier\n"),
            ("    phase store", "    phase put writes s[0:4]\n    phase store"),
        ),
        "phase 'get' moved ahead of phase 'put', but shares bytes of %s with it",
    ),
    "a barrier no longer separates two phases": Wrong(
        "C4",
        (
            (
                "    barrier\n    phase get reads s[2:6] defines old\n",
                "    phase get reads s[2:6] defines old\n    barrier\n",
            ),
        ),
        "phase 'get' is no longer separated by a barrier from phase 'put'",
    ),
    "a node leaves its event": Wrong(
        "C5",
        (('event_record "done"\n  after #second full', 'event_record "done"'),),
        "node second: may not be complete when event node 'record' starts",
    ),
    "a node overtakes an event": Wrong(
        "C5",
        (("node #after = @make(x=%w, y=%b)\n  after #wait full", "node #after = @make(x=%w, y=%b)"),),
        "node after: may begin before event node 'wait' is complete",
    ),
    "events change places": Wrong(
        "C5",
        (('"go"\n  after #record full', '"go"'),),
        "node record: may not be complete when event node 'wait' starts",
    ),
    "an event disappears": Wrong(
        "C6",
        (
            ('node #record = event_record "done"\n  after #second full\n', ""),
            ("after #record full", "after #second full"),
        ),
        "EventRecordNode 'record' disappeared",
    ),
    "an event is new": Wrong("C6", (("node #mark", 'node #more = event_record "x"\nnode #mark'),), "'more' is new"),
    "another launch": Wrong("C7", ((", y=%y)", ", y=%y) grid(2)"),), "second: .*: another launch", "unsupported"),
    "another value": Wrong("C7", (("with 1", "with 2"),), "mark: .*: another value", "unsupported"),
    "another kind": Wrong(
        "C7", (("copy %b -> %s[4:8]", "fill %s[4:8] with 0"),), "copy: .*: it was a MemcpyNode", "unsupported"
    ),
    "another phase": Wrong("C7", (("phase apply", "phase turn"),), "role 'main' runs other phases", "unsupported"),
    "a read of the same code that was not declared": Wrong(
        "C11",
        (("apply reads x uses", "apply reads x, w uses"),),
        "second: kernel 'use' of after contradicts kernel 'use' of before: "
        "phase 'apply' reads x, w, but is declared to read x",
    ),
    "a store that is declared no more": Wrong(
        "C11",
        (("    phase put writes s[0:4]\n", "    phase put\n"),),
        r"phase 'put' writes nothing, but is declared to write s\[0:4\]",
    ),
    "a barrier less": Wrong("C7", (("    barrier\n", ""),), "role 'main' lost a barrier", "unsupported"),
    "a barrier of the grid": Wrong(
        "C7", (("    phase store", "    barrier grid\n    phase store"),), "got one of the grid", "unsupported"
    ),
    "other arguments": Wrong(
        "C7", (("#after = @make(x=%w, y", "#after = @make(x=%x, y"),), "another arguments", "unsupported"
    ),
    "a black box appears": Wrong(
        "C8",
        (("node #tell ", "node #more = @opaque(x=%b)\n  after #copy full\nnode #tell "),),
        "'more' is new",
        "unsupported",
    ),
    "a part of a temporary is copied once more": Wrong(
        "C8",
        (
            ("node #tell ", "node #more = copy %b[0:2] -> %t[0:2]\n  after #patch full\nnode #tell "),
            ("buffer %s", "buffer %t : f32[4] temp\nbuffer %s"),
        ),
        "MemcpyNode 'more' is new",
        "unsupported",
    ),
    "a state moves": Wrong(
        "C9",
        (("buffer %s : f32[8] state", "alloc $arena : 64\nbuffer %s : f32[8] state at $arena + 16"),),
        "allocation 's' is not as before",
        "unsupported",
    ),
    "an allocation grows": Wrong(
        "C9",
        (("buffer %b : f32[4] temp", "alloc $b : 64\nbuffer %b : f32[4] temp at $b"),),
        "allocation 'b' is not as before",
        "unsupported",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_rewrites(case: Wrong) -> None:
    verdict = verdict_of(*case.edits)
    said = "\n".join(map(str, verdict.findings))
    assert verdict.status == case.status, said
    assert case.code in codes(verdict), said
    assert re.search(case.said, said), said


def test_every_rule_has_a_negative_test() -> None:
    tested = {case.code for case in (*WRONG.values(), *FUSED.values(), *MISPLACED.values())}
    # test_certificate_races.py, test_changed_constants.py, test_alignment.py, test_merged.py, test_folded.py,
    # test_copied.py, test_scratch.py
    tested |= {"C10", "C18", "C19", "C20", "C21", "C22", "C23"}
    assert tested == set(RULES)


def test_base_is_proved() -> None:
    assert check(parse_graph(BASE)).proved


RIGHT: dict[str, tuple[Edit, ...]] = {
    "nothing": (),
    "another name": (("graph base", "graph other"),),
    "a phase ahead of the wait": (
        ("    wait\n    phase load reads w defines tile\n", "    phase load reads w defines tile\n    wait\n"),
    ),
    "independent phases change places": (
        (
            "    phase apply reads x uses tile defines acc\n    phase put writes s[0:4]\n",
            "    phase put writes s[0:4]\n    phase apply reads x uses tile defines acc\n",
        ),
    ),
    "a trigger": (("    wait\n", "    trigger\n    wait\n"),),
    "a barrier more": (("    phase store", "    barrier\n    phase store"),),
    "a programmatic dependency": (("s=%s, y=%y)\n  after #first full", "s=%s, y=%y)\n  after #first programmatic"),),
    "a join": (
        ("after #clear full", "after #join full"),
        ("node #mark", "node #join = empty\n  after #clear full\nnode #mark"),
    ),
    "a full dependency more": (("with 1\n  after #clear full", "with 1\n  after #clear full\n  after #second full"),),
    "independent nodes change places": (
        ("node #clear = fill %z with 0\n", ""),
        ("node #first", "node #clear = fill %z with 0\nnode #first"),
    ),
    "a kernel under another name": (("@make", "@make.again"),),
    "a temporary moves": (("buffer %b : f32[4] temp", "alloc $arena : 64\nbuffer %b : f32[4] temp at $arena + 16"),),
    "temporaries share bytes": (
        ("buffer %a : f32[4] temp", "alloc $arena : 16\nbuffer %a : f32[4] temp at $arena"),
        ("buffer %b : f32[4] temp", "buffer %b : f32[4] temp at $arena"),
    ),
    "an unused kernel goes": (("kernel @opaque(x: f32[D]) opaque\n", ""),),
}


@pytest.mark.parametrize("edits", RIGHT.values(), ids=RIGHT.keys())
def test_right_rewrites(edits: tuple[Edit, ...]) -> None:
    verdict = verdict_of(*edits)
    assert verdict == Verdict("proved"), [str(finding) for finding in verdict.findings]
