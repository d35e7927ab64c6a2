"""Litmus tests as data, and the graphs that they stand for.

A body is a list of words: ``trigger, sleep, store x``. Roles (one warp each) are separated by ``|``:

| word | meaning |
|---|---|
| ``wait``, ``trigger``, ``fenced trigger``, ``barrier`` | the steps of that name |
| ``store x`` | each thread stores a value of this replay to its cell of ``x`` |
| ``load x`` | each thread loads a cell of ``x``: that of its opposite in the grid |
| ``copy x`` | the same cells, by a bulk copy that is complete before the next step |
| ``poll x`` | as ``load x``, again and again until the value changes, or for a while |
| ``sleep`` | about 200 us |
| ``stagger`` | each warp sleeps for another while, up to about 300 us |
| ``dormant wait`` | a wait in the machine code that is never executed |

What a node has loaded it reports, in its last steps, to an output of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Implementation,
    Kernel,
    Parameter,
    Phase,
    Role,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.nodes import Launch
from forerun.ir.types import BufferRole, DependencyKind, DType
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = [
    "SOURCE",
    "LitmusTest",
    "Observation",
    "fresh_buffer",
    "full",
    "given_buffer",
    "graph_of",
    "kernel_of",
    "launch_order",
    "observations",
    "programmatic",
]

SOURCE = Implementation("cuda", "forerun.runtime.litmus:litmus.cu", "litmus")
"""The CUDA C++ of the phases."""

WARP = 32
HOST = "host"
SECTOR = 32
"""Bytes of a cache line that are filled together."""
_PHASES = "forerun.runtime.litmus.phases"
_READS = ("load", "copy", "poll")
_PLAIN: Mapping[str, Step] = {
    "wait": Wait(),
    "trigger": Trigger(),
    "fenced trigger": Trigger(fenced=True),
    "barrier": Barrier(),
}
_DELAYS = ("sleep", "stagger", "dormant wait")


@dataclass(frozen=True)
class LitmusTest:
    """A small graph, and what is looked at.

    Attributes:
        name: Short and unique: ``L5b``.
        what: One line for the table.
        nodes: The body of each kernel node, in launch order.
        dependencies: The edges.
        ctas: CTAs of each node.
        threads: Threads that play each role in a CTA; 32 where a node has several roles.
        watch: What is looked at: ``C x`` is what node C loads of x, ``host x`` what the host reads right after the
            launch. By default all that nodes load.
        given: Look only at cells where the node has loaded a new value of this variable.
        one_sector: Whether the variables share a sector of a cache line; needs no more than 4 cells.
        controls: The assumptions that this test is a control of: it must show violations, or else the others prove
            nothing.
    """

    name: str
    what: str
    nodes: Mapping[str, str]
    dependencies: tuple[Dependency, ...]
    ctas: int = 1
    threads: int = 1
    watch: tuple[str, ...] = ()
    given: str = ""
    one_sector: bool = False
    controls: frozenset[str] = field(default=frozenset())

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def cells(self) -> int:
        """How many cells each variable has."""
        return self.ctas * self.threads

    @property
    def host_variables(self) -> tuple[str, ...]:
        """The variables that the host reads right after the launch."""
        return tuple(variable for node, variable in map(str.split, self.watch) if node == HOST)


@dataclass(frozen=True, slots=True)
class Observation:
    """Something to look at after each replay: a buffer, whose values are compared with those of a serial replay.

    It is what a node (empty: the host) has loaded of a variable.
    """

    buffer: str
    node: str
    variable: str


full = functools.partial(Dependency, kind=DependencyKind.FULL)
programmatic = functools.partial(Dependency, kind=DependencyKind.PROGRAMMATIC)
launch_order = functools.partial(Dependency, kind=DependencyKind.LAUNCH_ORDER)
"""The edges, from source to target."""


# What a test looks at


def observations(test: LitmusTest) -> tuple[Observation, ...]:
    """What is looked at after each replay."""
    loads = [(node, v) for node, body in test.nodes.items() for v in _loaded(body) if v != test.given]
    watched = [(node, v) for node, v in map(str.split, test.watch)] or loads
    return tuple(Observation(v, "", v) if node == HOST else Observation(_seen(node, v), node, v) for node, v in watched)


def given_buffer(test: LitmusTest, observation: Observation) -> str | None:
    """The output that tells at which cells to look; ``None`` for all cells."""
    return _seen(observation.node, test.given) if test.given else None


def writers(test: LitmusTest) -> tuple[str, ...]:
    """The nodes that store, in launch order."""
    return tuple(name for name, body in test.nodes.items() if any(w.startswith("store ") for w in _words(body)))


def fresh_buffer(node: str) -> str:
    """The input that holds the values that a node stores."""
    return f"fresh_{node}"


def _seen(node: str, variable: str) -> str:
    return f"seen_{node}_{variable}"


def _roles(body: str) -> list[list[str]]:
    return [[word.strip() for word in role.split(",") if word.strip()] for role in body.split("|")]


def _words(body: str) -> list[str]:
    return [word for role in _roles(body) for word in role]


def _loaded(body: str) -> list[str]:
    return [word.split()[1] for word in _words(body) if word.split()[0] in _READS]


def _stored(body: str) -> list[str]:
    return list(dict.fromkeys(word.split()[1] for word in _words(body) if word.startswith("store ")))


def _variables(body: str) -> list[str]:
    """The variables that a kernel points to: x at least, since the code needs to know how many cells there are."""
    return list(dict.fromkeys([*_stored(body), *_loaded(body)])) or ["x"]


# Kernels


@functools.cache
def kernel_of(body: str) -> Kernel:
    """The kernel of a body.

    Raises:
        InvalidInput: If a word is unknown.
    """
    loaded, stored = _loaded(body), _stored(body)
    names = [*(["fresh"] if stored else []), *_variables(body), *(f"seen_{v}" for v in loaded)]
    parameters: tuple[Parameter, ...] = tuple(BufferParameter(name, DType.I32, ("N",)) for name in names)
    found = _roles(body)
    roles = [
        Role(f"warp_{i}" if len(found) > 1 else "all", tuple(_steps(words)), 1 if len(found) > 1 else None)
        for i, words in enumerate(found)
    ]
    return Kernel(_kernel_name(body), parameters, tuple(roles), (SOURCE,))


def _kernel_name(body: str) -> str:
    words = body.replace("|", " or ").replace(",", " ").split()
    return "_".join(words) or "empty"


def _steps(words: list[str]) -> Iterator[Step]:
    if any(word.startswith("store ") for word in words):
        yield _phase("draw", reads=("fresh",), defines=("drawn",))
    for word in words:
        yield from _step(word)
    for variable in _loaded(",".join(words)):
        yield _phase(f"report_{variable}", uses=(f"got_{variable}",), writes=(f"seen_{variable}",))


def _step(word: str) -> Iterator[Step]:
    verb, _, variable = word.partition(" ")
    if word in _PLAIN:
        yield _PLAIN[word]
    elif word in _DELAYS:
        yield Phase(word.replace(" ", "_"), reference=f"{_PHASES}:nothing")
    elif verb == "store" and variable in ("x", "y"):
        yield _phase(f"store_{variable}", uses=("drawn",), writes=(variable,))
    elif verb == "copy" and variable in ("x", "y"):
        yield _phase(f"copy_{variable}", reads=(variable,), defines=(f"landing_{variable}",), asynchronous=True)
        yield _phase(f"land_{variable}", uses=(f"landing_{variable}",), defines=(f"got_{variable}",))
    elif verb in _READS and variable in ("x", "y"):
        yield _phase(f"{verb}_{variable}", reads=(variable,), defines=(f"got_{variable}",))
    else:
        known = [*_PLAIN, *_DELAYS, *(f"{v} {x}" for v in ("store", *_READS) for x in "xy")]
        raise InvalidInput(f"a litmus body has no word '{word}'", hint=did_you_mean(word, known))


def _phase(
    name: str,
    *,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
    defines: tuple[str, ...] = (),
    asynchronous: bool = False,
) -> Phase:
    accesses = tuple(map(Access, reads)), tuple(map(Access, writes))
    return Phase(name, *accesses, uses, defines, asynchronous=asynchronous, reference=f"{_PHASES}:keep")


# Graphs


def graph_of(test: LitmusTest) -> Graph:
    """The graph of a test, valid.

    Raises:
        InvalidInput: If the test is not well made.
    """
    if test.threads != WARP and any("|" in body for body in test.nodes.values()):
        raise InvalidInput(f"litmus test {test.name}: a role is one warp, so 'threads' must be {WARP}")
    make = GraphBuilder(test.name)
    _declare_variables(make, test)
    for node, body in test.nodes.items():
        threads = WARP * len(_roles(body)) if "|" in body else test.threads
        launch = Launch((test.ctas, 1, 1), (threads, 1, 1))
        make.launch(kernel_of(body), node=node, launch=launch, after=[], **_bind(make, test, node))
    for dependency in test.dependencies:
        make.depend(dependency.source, dependency.target, dependency.kind)
    return make.build()


def _declare_variables(make: GraphBuilder, test: LitmusTest) -> None:
    used = sorted({v for body in test.nodes.values() for v in _variables(body)})
    sector = make.allocation("sector", SECTOR) if test.one_sector else None
    for number, variable in enumerate(used):
        role = BufferRole.OUTPUT if variable in test.host_variables else BufferRole.STATE
        offset = number * SECTOR // 2 if sector else 0
        make.buffer(variable, DType.I32, (test.cells,), role, allocation=sector, offset=offset)


def _bind(make: GraphBuilder, test: LitmusTest, node: str) -> dict[str, str]:
    """The buffers of a node's parameters; its own inputs and outputs are declared here."""
    body, cells = test.nodes[node], (test.cells,)
    bound = {variable: variable for variable in _variables(body)}
    if _stored(body):
        bound["fresh"] = make.input(fresh_buffer(node), DType.I32, cells)
    for variable in _loaded(body):
        bound[f"seen_{variable}"] = make.output(_seen(node, variable), DType.I32, cells)
    return bound
