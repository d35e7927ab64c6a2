"""Each oracle accepts what is right, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import MemsetNode
from forerun.ir.types import DependencyKind, DType
from forerun.kernels.builtin import KERNELS
from forerun.passes import PassContext
from forerun.passes.insert_pdl import InsertPdl
from forerun.runtime.reference import ReferenceTarget
from forerun.testing import (
    Counterexample,
    assert_idempotent,
    assert_refines,
    assert_roundtrip,
    assert_same_outputs,
    assert_valid,
    hashing,
    inputs_of,
    weights_of,
)
from tests.testing.aims import ChangesFills


@pytest.fixture
def chain() -> Graph:
    """Three launches: x is copied to h, h to s, and the state is turned."""
    make = GraphBuilder("chain")
    x, h, s = make.input("x", DType.I32, (4,)), make.temp("h", DType.I32, (4,)), make.state("s", DType.I32, (4,))
    y = make.output("y", DType.I32, (4,))
    make.launch(KERNELS["copy_i32"], node="first", x=x, y=h)
    make.launch(KERNELS["accumulate_i32"], node="second", x=h, y=s)
    make.launch(KERNELS["copy_i32"], node="third", x=s, y=y)
    return make.build()


EXPLANATION = """\
    a schedule that nothing prevents (2 steps of other nodes left out):
        1  'second' starts
        2  'third' starts
    >   3  'third' reads %s bytes [0, 16) in phase 'load'
    >   4  'second' writes %s bytes [0, 16) in phase 'accumulate'
    missing: C_second -> S_third
    chain: second -programmatic-> third
    because the dependency 'second' -> 'third' is programmatic, and 'third' never waits
    each of these was tried, and repairs it:
      1. make the dependency 'second' -> 'third' full (then all is proved)
      2. let every role of 'third' wait first (then all is proved)
"""


def weakened(graph: Graph) -> Graph:
    """The last dependency made programmatic, though nothing waits."""
    edit = graph.edit()
    edit.set_dependency(replace(graph.dependencies[-1], kind=DependencyKind.PROGRAMMATIC))
    return edit.commit()


def test_a_right_rewrite_passes(chain) -> None:
    after = InsertPdl().apply(chain, PassContext(InsertPdl()))
    assert after != chain
    assert_valid(after)
    assert_refines(chain, after)
    assert_same_outputs(chain, after)
    assert_roundtrip(after)
    assert_idempotent("insert-pdl", chain)


def test_refines_shows_the_race_in_the_text_and_what_changed(chain) -> None:
    with pytest.raises(Counterexample) as caught:
        assert_refines(chain, weakened(chain))
    message = str(caught.value)
    assert message.startswith("refines: refuted: node third: RAW race")
    assert "^^" in message
    assert "-  after #second full" in message
    assert "+  after #second programmatic" in message
    assert caught.value.before is chain
    assert EXPLANATION in message


def test_same_outputs_shows_element_seed_and_schedule(chain) -> None:
    with pytest.raises(Counterexample) as caught:
        assert_same_outputs(chain, weakened(chain))
    message = str(caught.value)
    assert "differs on reference{schedule=adversarial" in caught.value.finding
    assert "element [0] is" in caught.value.finding
    assert "third: phase load" in message
    assert 'target="reference{schedule=adversarial' in message
    assert "  the certificate says: refuted\n  error[R1]: node third: RAW race" in message
    assert EXPLANATION in message
    # The serial order hides it.
    assert_same_outputs(chain, weakened(chain), seeds=())


def test_same_outputs_sees_state_of_a_later_replay() -> None:
    def with_fill(value: int) -> Graph:
        make = GraphBuilder("g")
        s = make.state("s", DType.I32, (4,))
        make.fill(s, value, node="fill")
        return make.build()

    with pytest.raises(Counterexample, match="state %s differs on reference: element"):
        assert_same_outputs(with_fill(0), with_fill(1))


def test_same_outputs_takes_inputs_weights_and_targets() -> None:
    make = GraphBuilder("g")
    x, w = make.input("x", DType.F32, (4,)), make.weight("w", DType.F32, (4,))
    y = make.output("y", DType.F32, (4,))
    make.launch(KERNELS["add_f32"], a=x, b=w, y=y)
    graph = make.build()
    x_value = np.float32([0.0, -0.0, np.nan, 1e30])
    assert_same_outputs(graph, graph, {"x": x_value}, weights={"w": x_value}, targets=[ReferenceTarget(h6=True)])
    edit = graph.edit()
    edit.set_kernel(replace(graph.kernels["add_f32"], roles=None))
    black_box = edit.commit()
    with pytest.raises(Counterexample, match="does not run"):
        assert_same_outputs(graph, black_box)


def test_how_to_see_it_again_can_be_pasted() -> None:
    make = GraphBuilder("g")
    make.fill(make.output("y", DType.I32, (4,)), value=1)
    other = GraphBuilder("g")
    other.fill(other.output("y", DType.I32, (4,)), value=2)
    with pytest.raises(Counterexample) as caught:
        assert_same_outputs(make.build(), other.build())
    exec(caught.value.replay, {"after": other.build()})


def test_default_values_keep_bounds_and_differ() -> None:
    make = GraphBuilder("g")
    make.input("row", DType.I32, (3,), bounds=(2, 3))
    make.input("f", DType.BF16, (5,))
    make.weight("w", DType.U8, (300,))
    graph = make.build()
    first, second = inputs_of(graph), inputs_of(graph, 1)
    assert set(first["row"].tolist()) <= {2, 3}
    assert first["f"].tobytes() != second["f"].tobytes()
    assert weights_of(graph)["w"].shape == (300,)


def test_invalid_idempotent_and_roundtrip_failures() -> None:
    make = GraphBuilder("g")
    make.fill(make.state("s", DType.I32, (4,)), node="fill")
    graph = make.build()
    with pytest.raises(Counterexample, match="a second application of"):
        assert_idempotent(ChangesFills, graph)
    edit = graph.edit()
    edit.replace_node(MemsetNode("fill", replace(graph.nodes["fill"].destination, buffer="nowhere")))
    with pytest.raises(Counterexample, match="nowhere"):
        assert_valid(edit.commit())
    with pytest.raises(Counterexample, match="its text cannot be read"):
        assert_roundtrip(Graph(3))  # type: ignore[arg-type]


def test_hashing_tells_operands_apart() -> None:
    a, b = np.int32([1, 2]), np.int32([3, 4])
    results = [hashing.digest(*operands) for operands in ((), (a,), (b,), (a, b), (b, a), (a, 1), (a[::-1],))]
    assert len({int(r) for r in results}) == len(results)
    for width in hashing.WIDTHS:
        stored = getattr(hashing, hashing.store_name(width))(a)
        assert (stored.shape, stored.dtype, len(set(stored.tolist()))) == ((width,), np.int32, width)


def test_the_package_and_the_plugin_import_nothing_heavy() -> None:
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import forerun.testing.plugin\n"
        "brought = set(sys.modules) - before\n"
        "import forerun.testing\n"
        "heavy = {'numpy', 'networkx', 'hypothesis.strategies', 'forerun.ir', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(len(brought), *sorted(brought))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, *names = done.stdout.split()
    assert int(count) <= 8, names
