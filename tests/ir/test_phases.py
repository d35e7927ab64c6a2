"""Kernels of NumPy functions: what is derived from the names of arguments, and what is refused, with what message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forerun.ir.kernel import Barrier, Phase, Role
from forerun.ir.phases import PhaseFunction, kernel, phase, phase_of
from forerun.ir.text import parse_graph
from forerun.support.diagnostics import InvalidInput

PARAMETERS = "x: f32[N], cache: f16[T, N] align 16, y: f32[N], pos: scalar i32, eps: scalar f32"


@phase(reads="cache[0:pos]", defines="past, count")
def load(rows):
    return rows, len(rows)


@phase(writes="y, cache[pos:pos + 1]")
def combine(x, _past, count, eps):
    return x + count + eps, x


def test_the_text_form_is_what_one_would_have_written():
    made = kernel("mine", PARAMETERS, load, Barrier(), combine)
    text = f"""forerun 1
graph g
kernel @mine({PARAMETERS}) {{
  role all {{
    phase load reads cache[0:pos] defines past, count ref "{__name__}:load"
    barrier
    phase combine reads x uses past, count scalars eps writes y, cache[pos:pos + 1] ref "{__name__}:combine"
  }}
}}
"""
    assert parse_graph(text).kernels["mine"] == made


def test_decorated_functions_stay_functions_and_may_be_declared_again():
    assert combine(1, None, 2, 3) == (6, 1)
    other = replace(phase_of(combine), name="sum", reads="y", writes="y", uses="", asynchronous=True)
    with pytest.raises(InvalidInput, match="argument 'past' is not a buffer, a local of an earlier phase, or a scalar"):
        kernel("mine", PARAMETERS, other)
    (step,) = kernel("mine", PARAMETERS, replace(phase_of(load), name="first", asynchronous=True)).phases
    assert step == replace(kernel("mine", PARAMETERS, load).phases[0], name="first", asynchronous=True)


def add_all(first, *others):
    return first + sum(others)


def test_a_function_of_any_number_of_arrays_says_what_they_are():
    """One function for kernels with one row, or several."""
    for count in (1, 3):
        rows = ", ".join(f"cache[{row}:{row + 1}]" for row in range(count))
        piece = PhaseFunction(add_all, writes="y", reads=rows, uses="past", scalars="pos, eps")
        found = kernel("mine", PARAMETERS, load, piece).phases[1]
        assert [str(access) for access in found.reads] == rows.split(", ")
        assert (found.uses, found.scalars) == (("past",), ("pos", "eps"))
    with pytest.raises(InvalidInput, match="argument 'others' is not a buffer"):
        kernel("mine", PARAMETERS, load, PhaseFunction(add_all, writes="y", reads="x", uses=""))
    with pytest.raises(InvalidInput, match="argument 'there' is not a buffer"):
        kernel("mine", PARAMETERS, PhaseFunction(add_all, writes="y", reads="x", uses="", scalars="there"))


def test_locals_hide_buffers_of_their_name():
    @phase(defines="x")
    def double(x):
        return 2 * x

    @phase(writes="y")
    def store(x):
        return x

    first, second = kernel("mine", PARAMETERS, double, store).phases
    assert [access.parameter for access in first.reads] == ["x"]
    assert (second.reads, second.uses) == ((), ("x",))


def test_phases_and_roles_may_be_given_as_they_are():
    given = Phase("given", defines=("past", "count"))
    assert kernel("mine", PARAMETERS, given, combine).phases[1].uses == ("past", "count")
    roles = Role("a", (given,), 1), Role("b", ())
    assert kernel("mine", PARAMETERS, *roles).roles == roles
    with pytest.raises(InvalidInput, match="roles and phases stand side by side"):
        kernel("mine", PARAMETERS, *roles, load)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("x f32[N]", "kernel 'mine': expected ':', found 'f32', at column 3 of 'x f32[N]'"),
        ("x: float", "kernel 'mine': unknown element type 'float', at column 4"),
        ("x: f32[N] y: f32", "expected ',' or the end, found 'y', at column 11"),
        ("x: f32[N", "expected ',' or ']', but the text ends"),
        ('x: f32["', "string"),
    ],
)
def test_parameters_that_cannot_be_read_are_refused_with_the_place(parameters, message):
    with pytest.raises(InvalidInput) as caught:
        kernel("mine", parameters)
    assert message in str(caught.value)


def test_no_parameters_are_none():
    assert kernel("mine", " \n").parameters == ()


def named(**names):
    """A function whose argument has a name."""
    (name,) = names
    space = {}
    exec(f"def touch({name}): return {name}", space)
    return phase(writes="y")(space["touch"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (named(ep=1), "phase 'touch': argument 'ep' is not a buffer, a local of an earlier phase, or a scalar"),
        (replace(phase_of(load), reads="cash[0:pos]"), "'cash' is not a buffer of the kernel"),
        (replace(phase_of(load), reads="cache[0]"), "phase 'load', reads: expected ':', found ']'"),
        (replace(phase_of(load), writes="past"), "'past' is not a buffer of the kernel"),
        (replace(phase_of(load), reads="x, y"), "its function lacks arguments: it has 1 for 2 reads and 0 locals"),
        (len, "len is not a phase"),
    ],
)
def test_phases_that_do_not_fit_are_refused(body, message):
    with pytest.raises(InvalidInput) as caught:
        kernel("mine", PARAMETERS, body)
    assert message in str(caught.value)


def test_clauses_are_text():
    with pytest.raises(InvalidInput, match=r"writes of a phase is text such as \"x, y\", not \['y'\]"):
        phase(writes=["y"])(len)


def test_the_order_of_arguments_is_explained():
    @phase(writes="y")
    def late(eps, x):
        return x + eps

    with pytest.raises(InvalidInput, match="arrays that are read come first, then locals, then scalars"):
        kernel("mine", PARAMETERS, late)
