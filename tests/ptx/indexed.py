"""Programs as compilers write them: indices, guards, loops that count, and accesses at a pointer plus an index."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hypothesis import strategies as st

__all__ = ["indexed_programs"]

HEAD = """\
.version 9.0
.target sm_90
.entry k(.param .u64 .ptr .global a, .param .u64 .ptr .global b, .param .u32 n)
{
\t.reg .b32 %r<5>; .reg .b64 %rd<9>; .reg .pred %p<6>; .reg .b32 %c<9>; .reg .pred %q<9>;
\tld.param.u64 %rd0, [a];
\tld.param.u64 %rd1, [b];
\tld.param.u32 %r0, [n];
\tmov.u32 %r1, %tid.x;
\tmov.u32 %r2, %ctaid.x;
\tmad.lo.s32 %r3, %r2, %ntid.x, %r1;
\tsetp.lt.s32 %p0, %r3, %r0;
\tsetp.ge.u32 %p1, %r3, 2;
\tand.pred %p2, %p0, %p1;
\tor.pred %p3, %p0, %p1;
\tnot.pred %p4, %p3;
"""
FIELDS = {
    "guard": ["", "", "@%p0 ", "@!%p1 ", "@%p2 ", "@!%p3 ", "@%p4 "],
    "sign": ["s", "u"],
    "to": ["%r1", "%r2", "%r3", "%r4"],
    "index": ["%r0", "%r1", "%r2", "%r3", "%r3", "%tid.x", "%ctaid.x", "%ntid.x"],
    "either": ["%r0", "%r1", "%r3", "%tid.x", "0", "1", "3", "4", "7", "-1", "100", "0x7fffffff"],
    "few": ["1", "2", "3", "7", "-1", "-3"],
    "size": ["1", "2", "4", "-4"],
    "relation": ["lt", "le", "gt", "ge", "eq", "ne"],
    "predicate": ["%p0", "%p1", "%p2", "%p3"],
    "pointer": ["%rd0", "%rd1"],
    "access": ["ld.global.u32 %r4, [%rd8+4]", "st.global.v2.u32 [%rd8+-8], {%r0, %r1}"],
}
INSTRUCTIONS = [
    "<guard>add.s32 <to>, <index>, <either>",
    "<guard>sub.s32 <to>, <index>, <either>",
    "<guard>mul.lo.s32 <to>, <index>, <few>",
    "<guard>mul.hi.<sign>32 <to>, <index>, <either>",
    "<guard>and.b32 <to>, <index>, 12",
    "<guard>shl.b32 <to>, <index>, 2",
    "<guard>shr.<sign>32 <to>, <index>, 1",
    "<guard>rem.<sign>32 <to>, <index>, 5",
    "<guard>div.<sign>32 <to>, <index>, 3",
    "<guard>min.<sign>32 <to>, <index>, <either>",
    "<guard>max.<sign>32 <to>, <index>, <either>",
    "<guard>selp.b32 <to>, <index>, <either>, <predicate>",
    "setp.<relation>.<sign>32 <predicate>, <index>, <either>",
    "and.pred <predicate>, <predicate>, <predicate>",
]


@st.composite
def indexed_programs(draw: st.DrawFn) -> str:
    """A kernel that accesses what lies at indices from its pointers."""
    numbers = iter(range(1000))
    counters = iter(range(9))

    def filled(line: str) -> str:
        sign = draw(st.sampled_from(FIELDS["sign"]))
        return re.sub(
            r"<(\w+)>", lambda match: sign if match[1] == "sign" else draw(st.sampled_from(FIELDS[match[1]])), line
        )

    def access(index: str) -> Iterator[str]:
        yield filled(f"\tmad.wide.s32 %rd8, {index}, <size>, <pointer>;\n\t<guard><access>;\n")

    def loop(counter: int, depth: int) -> Iterator[str]:
        label, c, q = f"$L{next(numbers)}", f"%c{counter}", f"%q{counter}"
        step = draw(st.sampled_from(["1", "2", "4", "-1", "-2", "%ntid.x"]))
        test = filled(f"\tsetp.<relation>.<sign>32 {q}, {c}, <either>;\n")
        is_tested_first = draw(st.booleans())
        yield filled(f"\tmov.u32 {c}, <index>;\n")
        if draw(st.booleans()):
            yield filled(f"\tsetp.eq.s32 %p5, {c}, 0;\n\t@%p5 bra {label}e;\n")
        yield f"{label}:\n" + (f"{test}\t@!{q} bra {label}e;\n" if is_tested_first else "")
        yield from access(c)
        yield from several(depth + 1)
        yield f"\tadd.s32 {c}, {c}, {step};\n"
        yield f"\tbra {label};\n" if is_tested_first else f"{test}\t@{q} bra {label};\n"
        yield f"{label}e:\n"
        if draw(st.booleans()):
            yield from access(c)

    def several(depth: int) -> Iterator[str]:
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from(["one", "access", "access", "if", "loop"])) if depth < 2 else "access"
            counter = next(counters, None) if kind == "loop" else None
            if counter is not None:
                yield from loop(counter, depth)
            elif kind == "if":
                label = f"$L{next(numbers)}"
                yield filled(f"\t@!<predicate> bra {label};\n")
                yield from several(depth + 1)
                yield f"{label}:\n"
            elif kind == "access":
                yield from access(draw(st.sampled_from(FIELDS["index"])))
            else:
                yield filled(f"\t{draw(st.sampled_from(INSTRUCTIONS))};\n")

    return HEAD + "".join(several(0)) + "\tret;\n}\n"
