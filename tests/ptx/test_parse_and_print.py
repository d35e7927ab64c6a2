"""Texts of PTX are read, and come out again to the byte; what is changed is printed as it is now."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ptx.accesses import summarise
from forerun.ptx.cfg import control_flow
from forerun.ptx.divergence import divergence
from forerun.ptx.lexer import words
from forerun.ptx.operands import Address, Immediate, Register, Sum, Symbol, Vector, registers_of
from forerun.ptx.parser import parse_module
from forerun.ptx.printer import print_module
from forerun.ptx.syntax import Brace, Declaration, Directive, Instruction, Label, Module
from forerun.support.diagnostics import InvalidInput
from tests.ptx.texts import ALL, EVERYTHING, mutations


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_a_text_comes_out_as_it_was(text: str) -> None:
    assert print_module(parse_module(text)) == text


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_the_usual_form_says_the_same(text: str) -> None:
    module = parse_module(text)
    plain = print_module(module, plain=True)
    assert words(plain) == words(text)
    assert parse_module(plain) == module


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_lines_are_those_of_the_text(text: str) -> None:
    lines = text.split("\n")
    module = parse_module(text)
    found = [one for function in module.functions for one in (function, *(function.body or ()))]
    assert found
    for one in found:
        assert one.spelling.split("\n")[0] in lines[one.line - 1]


def body_of(*lines: str) -> tuple[object, ...]:
    text = ".version 9.0\n.target sm_90\n.entry k()\n{\n" + "\n".join(lines) + "\n}\n"
    return parse_module(text).entries[0].body or ()


def test_what_is_read() -> None:
    module = parse_module(EVERYTHING)
    assert (module.version, module.target, module.address_size) == ((9, 0), ("sm_90a", "debug"), 64)
    assert [(f.kind, f.name) for f in module.functions] == [
        (".func", "vprintf"),
        (".func", "helper"),
        (".func", "helper"),
        (".entry", "kernel"),
    ]
    kernel = module.entry("kernel")
    assert kernel.directive(".maxntid") == (128, 1, 1)
    assert kernel.directive(".reqntid") is None
    assert [(p.name, p.bytes, p.is_pointer) for p in kernel.parameters or ()] == [
        ("kernel_param_0", 8, True),
        ("kernel_param_1", 24, False),
    ]
    pairs = module.variables[0]
    assert (pairs.linkage, pairs.space, pairs.type, pairs.bytes) == ((".visible",), ".global", ".f32", 32)
    assert module.variables[1].names[0].dimensions == (None,)
    assert [one.name for one in module.variables[2].names] == ["where", "second"]
    with pytest.raises(KeyError, match="no kernel 'helper': there are kernel"):
        module.entry("helper")


def test_instructions_are_read() -> None:
    load, branch, label, ends = body_of(
        "@!%p1 ld.global.nc.v2.u32 {%r1, _}, [ %rd1 + -8 ];", "bra.uni $L;", "$L:", "{ .reg .b32 a, t<3>; }"
    )[:4]
    assert isinstance(load, Instruction)
    assert load.guard is not None
    assert load.guard.negated
    assert (load.base, load.parts) == ("ld", ("ld", "global", "nc", "v2", "u32"))
    address = Address((Sum(Register("%rd1"), "+", Immediate("-8")),))
    assert load.operands == (Vector((Register("%r1"), Symbol("_"))), address)
    assert (address.base, address.offset) == (Register("%rd1"), -8)
    assert [str(r) for operand in load.operands for r in registers_of(operand)] == ["%r1", "%rd1"]
    assert branch == Instruction("bra.uni", (Symbol("$L"),))
    assert label == Label("$L")
    assert ends == Brace("{")


def test_names_are_registers_where_they_are_declared() -> None:
    body = body_of("{ .reg .b32 a, t<3>;", "mov.b32 a, t2;", "mov.b32 a, t3; }", "mov.b32 %r1, a;")
    moves = [one.operands for one in body if isinstance(one, Instruction)]
    assert moves == [
        (Register("a"), Register("t2")),
        (Register("a"), Symbol("t3")),
        (Register("%r1"), Symbol("a")),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-17", -17),
        ("0x1F", 31),
        ("0x1FU", 31),
        ("017", 15),
        ("0b101", 5),
        ("8U", 8),
        ("1.5", 1.5),
        ("2.", 2.0),
        ("1e3", 1000.0),
        ("0f3FC00000", 1.5),
        ("-0f3FC00000", -1.5),
        ("0d3FF8000000000000", 1.5),
        ("0xE", 14),
    ],
)
def test_numbers(text: str, value: float) -> None:
    (move,) = body_of(f"mov.b32 %r1, {text};")
    assert isinstance(move, Instruction)
    number = move.operands[1]
    assert isinstance(number, Immediate)
    assert (number.value, type(number.value)) == (value, type(value))


# Changes


def changed(text: str, before: str, **fields: object) -> str:
    """The text of a module in which instructions with an opcode are others."""
    module = parse_module(text)
    statements = []
    for one in module.statements:
        body = getattr(one, "body", None)
        if body:
            found = [replace(s, **fields) if isinstance(s, Instruction) and s.opcode == before else s for s in body]
            one = replace(one, body=tuple(found))
        statements.append(one)
    return print_module(Module(tuple(statements), module.trailing))


def test_only_what_is_changed_is_printed_otherwise() -> None:
    text = ".version 9.0\n.entry k() // here\n{\n ld.global.nc.u32  %r1, [%rd1] ; // first\n\tret ;\n}\n"
    expected = text.replace("ld.global.nc.u32  %r1, [%rd1] ;", "ld.global.u32 \t%r1, [%rd1];")
    assert changed(text, "ld.global.nc.u32", opcode="ld.global.u32") == expected


def test_what_is_new_stands_on_a_line_of_its_own() -> None:
    module = parse_module(".version 9.0\n.entry k() {\n\tret;\n}\n")
    kernel = module.entries[0]
    body = (Instruction("griddepcontrol.wait"), Directive((".pragma", '"nounroll"', ";")), *(kernel.body or ()))
    text = print_module(module.with_function(replace(kernel, body=body)))
    assert text == '.version 9.0\n.entry k() {\n\tgriddepcontrol.wait;\n\t.pragma "nounroll";\n\tret;\n}\n'


def test_a_spelling_counts_only_as_long_as_it_says_the_same() -> None:
    (load,) = body_of("ld.u32 %r1 , [%rd1+0] ;")
    assert isinstance(load, Instruction)
    assert replace(load, line=7) == load
    for other in (replace(load, opcode="ld.u64"), replace(load, operands=load.operands[:1]), replace(load, guard=None)):
        kernel = replace(parse_module(".entry k() { }").entries[0], body=(other,))
        shown = str(other) if other != load else "ld.u32 %r1 , [%rd1+0] ;"
        assert shown in print_module(Module((kernel,)))


# What is not PTX

WRONG = {
    "a missing semicolon": ("mov.u32 %r1, %r2\nadd.s32 %r3, %r1, 1;", 6, 1, "expected ',', found 'add.s32'"),
    "an address that is not closed": ("ld.u32 %r1, [%rd1;", 5, 18, "expected ']'"),
    "an operand too few": ("add.s32 %r1, , 2;", 5, 14, "expected an operand, found ','"),
    "a number": ("mov.u32 %r1, 09;", 5, 14, "'09' is not a number of PTX"),
    "a float of the wrong length": ("mov.f32 %f1, 0f3F8;", 5, 14, "'0f3F8' is not a number of PTX"),
    "a word": ("hello world", 5, 1, "expected a statement that ends with ';', or a label"),
    "a directive": (".lok 1 2 3", 5, 1, "expected a declaration or a directive"),
    "a line": (".loc 1 x 3", 5, 1, "'.loc' is followed by something else than it takes"),
    "a declaration": (".reg .b32 %r<x>;", 5, 14, "expected a number of registers, found 'x'"),
    "a number of registers": (".reg .b32 %r<08>;", 5, 14, "expected a number of registers, found '08'"),
    "a number without end": (f"mov.u32 %r1, {'9' * 5000};", 5, 14, f"'{'9' * 5000}' is not a number of PTX"),
    "no end": ("ret; /* }", 5, 6, "expected a statement that ends with ';', or a label"),
    "not closed": ("{ ret;", 3, 1, "a function is not closed: expected '}'"),
    "a register without a name": ("mov.u32 %, 1;", 5, 9, "expected the name of a register after '%'"),
}


@pytest.mark.parametrize(("line", "at", "column", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_have_a_place(line: str, at: int, column: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read wrong\.ptx as PTX") as caught:
        parse_module(f".version 9.0\n.target sm_90\n.entry k()\n{{\n{line}\n}}\n", "wrong.ptx")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == message
    assert (diagnostic.location.line, diagnostic.location.column) == (at, column)


def test_a_mistake_is_drawn() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_module(".version 9.0\n.entry k() {\n  .lok 1 2 3\n}", "k.ptx")
    assert caught.value.__notes__ == [
        "error[PTX1]: expected a declaration or a directive\n --> k.ptx:3:3\n  |\n2 | .entry k() {\n"
        "3 |   .lok 1 2 3\n  |   ^^^^\n4 | }\n  = hint: did you mean '.loc'?"
    ]


@pytest.mark.parametrize(
    "text", ["}", "x", ".entry", ".entry k(", ".visible .visible", "/*", ".section .x {", "\0}", "#"]
)
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_module(text)


def test_nothing_is_a_module() -> None:
    assert print_module(parse_module("// nothing\n")) == "// nothing\n"
    assert parse_module("").version == (0, 0)
    assert print_module(parse_module(".version 9.0\n\0\0")) == ".version 9.0\n\0\0"


@given(mutations())
def test_mutations_are_read_exactly_or_refused_with_a_place(text: str) -> None:
    try:
        module = parse_module(text, "mutant")
    except InvalidInput as error:
        refusal = error
    else:
        event("read")
        assert print_module(module) == text
        assert parse_module(print_module(module, plain=True)) == module
        assert all(isinstance(one.bytes, int) for one in module.statements if isinstance(one, Declaration))
        analyse(module)
        return
    event("refused")
    (diagnostic,) = refusal.diagnostics
    lines = text.split("\n")
    assert 1 <= diagnostic.location.line <= len(lines)
    assert 1 <= diagnostic.location.column <= len(lines[diagnostic.location.line - 1]) + 2
    assert "^" in refusal.__notes__[0]


@given(st.sampled_from(list(ALL.values())), st.data())
def test_whatever_the_words_are_they_can_be_analysed(text: str, data: st.DataObject) -> None:
    """A few words of instructions are others of the text: it can be read, though ptxas might refuse it."""
    places = [match.span() for match in re.finditer(r"%\w+|\b[a-z]+(?:\.\w+)+|-?\b\d+\b|\$L\w+", text)]
    for _ in range(data.draw(st.integers(1, 8))):
        start, stop = data.draw(st.sampled_from(places))
        other, end = data.draw(st.sampled_from(places))
        if stop <= len(text) and end <= len(text):
            text = text[:start] + text[other:end].ljust(stop - start)[: stop - start] + text[stop:]
    try:
        module = parse_module(text)
    except InvalidInput:
        event("refused")
        return
    event("analysed")
    analyse(module)


def analyse(module: Module) -> None:
    for function in module.functions:
        if function.body is None:
            continue
        try:
            flow = control_flow(function)
        except InvalidInput:  # a label that is not there any more
            continue
        found = summarise(function, flow)
        assert str(found).startswith(function.name)
        assert set(divergence(flow).branches) <= flow.reached | set(range(len(flow.instructions)))
