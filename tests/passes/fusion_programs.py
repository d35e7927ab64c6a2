"""Random programs of small integer kernels in which fusion rules apply, almost apply, and must not apply."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st
from numpy.typing import NDArray

from forerun.ir.builder import GraphBuilder
from forerun.ir.fusion import FusionRule, Match, Part, Rejection, Replacement
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, Kernel, Phase, Role
from forerun.ir.nodes import EventRecordNode
from forerun.ir.trust import vouch
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.kernels.builtin import add as add_arrays
from forerun.kernels.builtin import combine as combine_arrays

__all__ = ["RULES", "fusible_programs", "rule"]

N = 4
vouch(__name__)
I32 = DType.I32
ADD, COPY, SPREAD = (KERNELS[f"{name}_i32"] for name in ("add", "copy", "spread"))

Array = NDArray[Any]


def _phase(name: str, **parts: Any) -> Phase:
    return Phase(name, reference=f"{__name__}:{name}", **parts)


ADD3 = Kernel(
    "add3",
    (*ADD.parameters[:2], *(type(ADD.parameters[0])(name, I32, ("n",)) for name in ("c", "y"))),
    (Role("all", (_phase("add3", reads=(Access("a"), Access("b"), Access("c")), writes=(Access("y"),)),)),),
)
SPREAD_ADD = Kernel(
    "spread_add",
    (*SPREAD.parameters[:3], type(ADD.parameters[0])("w", I32, ("n",))),
    (Role("all", (_phase("spread_add", reads=(Access("a"), Access("b")), writes=(Access("y"), Access("w"))),)),),
)


def add3(a: Array, b: Array, c: Array) -> Array:
    return add_arrays(c, add_arrays(b, a))


def spread_add(a: Array, b: Array) -> tuple[Array, Array]:
    combined = combine_arrays(b, a)
    return combined, add_arrays(combined, combined - a)


def rule(name: str, kernel: Kernel, *patterns: tuple[Part, ...], **bound: str) -> FusionRule:
    """A rule whose replacement has variables of its parameters' names, unless told."""

    def replace(match: Match) -> Replacement | Rejection:
        variables = {p.name: bound.get(p.name, p.name) for p in kernel.parameters}
        return Replacement(kernel, match.nodes[patterns[0][-1].name].launch, variables)

    return FusionRule(name, name, patterns, replace, 0.0, _no_example)


def _no_example(random: Random) -> Graph:
    raise AssertionError("these rules are tried on random programs")


_COPY = Part("copy", (COPY,), {"x": "x", "y": "t"}, recomputed=True)
_SUM = Part("sum", (ADD,), {"a": "a", "b": "b", "y": "t"})
_SPREAD = Part("spread", (SPREAD,), {"a": "a", "b": "b", "y": "y", "z": "z"})
COPY_ADD = ((_COPY, Part("add", (ADD,), {"a": "a", "b": "t", "y": "y"})),)
ADD_ADD = ((_SUM, Part("add", (ADD,), {"a": "t", "b": "c", "y": "y"})),)
SPREAD_THEN_ADD = ((_SPREAD, Part("add", (ADD,), {"a": "z", "b": "y", "y": "w"})),)

RULES = (
    rule("copy-add", ADD, *COPY_ADD, b="x"),
    rule("add-add", ADD3, *ADD_ADD),
    rule("spread-add", SPREAD_ADD, *SPREAD_THEN_ADD),
)


@st.composite
def fusible_programs(draw: st.DrawFn) -> Graph:
    """A valid graph in launch order, of kernels on temporaries that overlap, state, and outputs."""
    builder = GraphBuilder("random")
    builder.input("i", I32, (N,))
    builder.state("s", I32, (N,))
    builder.allocation("arena", 8 * N)
    temps = ["t0", "t1", "t2", "v0", "v1"]
    for name in temps[:3]:
        builder.temp(name, I32, (N,))
    # Views that share half of their bytes.
    builder.buffer("v0", I32, (N,), BufferRole.TEMP, allocation="arena")
    builder.buffer("v1", I32, (N,), BufferRole.TEMP, allocation="arena", offset=2 * N)
    builder.output("o", I32, (N,))
    known = ["i", "s"]

    def launch(kernel: Kernel, **fixed: str) -> dict[str, str]:
        bound = dict(fixed)
        for parameter in kernel.parameters:
            written = parameter.name in ("y", "z") and kernel.name not in ("turn_i32", "accumulate_i32")
            choices = (
                [*temps, "s", "o"] if written else [name for name in known if name != "i" or parameter.name != "y"]
            )
            bound.setdefault(parameter.name, draw(st.sampled_from(choices)))
        builder.launch(kernel, **bound)
        known.extend(bound[n] for n in ("y", "z") if n in bound and bound[n] not in known)
        return bound

    for turn in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["copy", "sum", "spread", "event", *("any" for _ in range(2))])):
            case "event":
                builder.add(EventRecordNode(f"event{turn}", "e"))
            case "any":
                launch(KERNELS[f"{draw(st.sampled_from(['add', 'copy', 'turn', 'accumulate']))}_i32"])
            case first:
                bound = launch({"copy": COPY, "sum": ADD, "spread": SPREAD}[first])
                if draw(st.integers(0, 3)) == 0:
                    launch(draw(st.sampled_from([ADD, COPY])))
                second = {"copy": {"b": bound["y"]}, "sum": {"a": bound["y"]}}.get(first)
                launch(ADD, **(second or {"a": bound["z"], "b": bound["y"]}))
    launch(COPY, y="o")
    return builder.build(verify=False)
