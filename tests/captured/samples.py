"""Captured graphs for tests: kernels of PTX that is written here, their images as far as ptxas is there."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from forerun.captured import (
    AssembledText,
    CapturedEdge,
    CapturedFunction,
    CapturedGraph,
    CapturedNode,
    HostSource,
    MemoryRange,
    Transfer,
)
from forerun.captured.graph import WRITERS, digest_of

__all__ = [
    "BLOCKS",
    "GUARDED",
    "POOL",
    "SCALE",
    "SIZE",
    "captured",
    "chain",
    "graphs",
    "kernel",
    "launch",
    "two_chains",
]

SIZE = 1 << 16
BLOCKS = {name: 0x7F0000000000 + (number << 20) for number, name in enumerate(("w0", "w1", "x", "y", "z"))}
"""Where each block of memory begins."""


def kernel(name: str, *lines: str, parameters: str = ".param .u64 .ptr .global w, .param .u64 .ptr .global x, "
           ".param .u64 .ptr .global y") -> str:  # fmt: skip
    """A kernel of some lines, with addresses of its own elements in ``%rd4``, ``%rd5`` and ``%rd6``."""
    head = f""".version 9.0
.target sm_90a
.address_size 64
.visible .entry {name}({parameters})
{{
.reg .b32 %r<9>; .reg .b64 %rd<12>; .reg .pred %p<4>;
ld.param.u64 %rd1, [w];
ld.param.u64 %rd2, [x];
ld.param.u64 %rd3, [y];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd7, %r1, 4;
add.s64 %rd4, %rd1, %rd7;
add.s64 %rd5, %rd2, %rd7;
add.s64 %rd6, %rd3, %rd7;
"""
    return head + "\n".join(lines) + "\nret;\n}\n"


SCALE = ("ld.global.nc.u32 %r2, [%rd4];", "ld.global.u32 %r3, [%rd5];", "add.u32 %r3, %r3, %r2;",
         "st.global.u32 [%rd6], %r3;")  # fmt: skip


def launch(function: int, *blocks: str | bytes) -> CapturedNode:
    """A launch with pointers to blocks, or parameters as bytes."""
    values = [one if isinstance(one, bytes) else BLOCKS[one].to_bytes(8, "little") for one in blocks]
    return CapturedNode("kernel", function, (4, 1, 1), (128, 1, 1), parameters=tuple(values))


def captured(
    texts: Sequence[str],
    nodes: Sequence[CapturedNode],
    edges: Sequence[CapturedEdge] | None = None,
    *,
    opened: bool = True,
    images: dict[str, bytes] | None = None,
) -> CapturedGraph:
    """A graph of the first kernel of each text, in a chain unless other edges are given."""
    functions = []
    for text in texts:
        name = text.partition(".entry ")[2].partition("(")[0]
        image = next((digest for digest, code in (images or {}).items() if name.encode() in code), "")
        layout = tuple((8 * number, 8) for number in range(text.partition("{")[0].count(".param")))
        functions.append(CapturedFunction(name, image, digest_of(text) if opened else "", layout, {"registers": 32}))
    joined = [CapturedEdge(n, n + 1) for n in range(len(nodes) - 1)] if edges is None else edges
    memory = tuple(MemoryRange(at, SIZE, name=name) for name, at in BLOCKS.items())
    found = {digest_of(text): AssembledText(text, ("-O3",), "13.0", "tests") for text in texts} if opened else {}
    return CapturedGraph(
        tuple(nodes), tuple(joined), tuple(functions), images or {}, found, memory, {"gpu": "none"}, ("a remark",)
    )


def chain(*lines: str, opened: bool = True) -> CapturedGraph:
    """``y = w0 + x``, ``z = w1 + y``, both by a kernel of some lines."""
    nodes = [launch(0, "w0", "x", "y"), launch(0, "w1", "y", "z")]
    return captured([kernel("scale", *(lines or SCALE))], nodes, opened=opened)


POOL = BLOCKS["x"]
"""Where the private pool of :func:`two_chains` begins."""


GUARDED = (
    "mov.u32 %r5, %ctaid.x;", "mad.lo.s32 %r4, %r5, 128, %r1;", "setp.ge.s32 %p1, %r4, 400;", "@%p1 ret;",
    "mul.wide.s32 %rd7, %r4, 4;", "add.s64 %rd4, %rd1, %rd7;", "add.s64 %rd5, %rd2, %rd7;", "add.s64 %rd6, %rd3, %rd7;",
    *SCALE,
)  # fmt: skip
"""As :data:`SCALE`, for 400 elements."""


def two_chains(
    *lines: str, tensors: Sequence[tuple[int, int]] = ((0, 1), (1, 2), (3, 4), (4, 5)), size: int = 2048
) -> CapturedGraph:
    """Nodes that were captured one after the other: each reads one tensor of 400 elements and writes another.

    The tensors lie in one block, some bytes apart.
    """
    places = [[(POOL + size * number).to_bytes(8, "little") for number in pair] for pair in tensors]
    nodes = [launch(0, f"w{number % 2}", *pair) for number, pair in enumerate(places)]
    return captured([kernel("scale", *(lines or GUARDED))], nodes)


# Any graph

_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
_triples = st.tuples(*[st.integers(1, 1 << 20)] * 3)
_attributes = st.dictionaries(
    st.sampled_from(["cooperative", "cluster_x", "priority"]), st.integers(-5, 99), max_size=2
)
_texts = st.builds(AssembledText, _names, st.lists(_names, max_size=2).map(tuple), _names, _names)
_transfers = st.builds(
    Transfer, st.none() | st.integers(0, (1 << 64) - 1), *[st.integers(0, 1 << 40)] * 5, st.sampled_from([1, 2, 4])
)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 0) -> CapturedGraph:
    """Any captured graph, child graphs included."""
    images = {digest_of(data): data for data in draw(st.lists(st.binary(max_size=40), max_size=2))}
    texts = {digest_of(text.text): text for text in draw(st.lists(_texts, max_size=2))}
    functions = [
        CapturedFunction(
            draw(_names),
            draw(st.sampled_from(["", *images])),
            draw(st.sampled_from(["", *texts])),
            tuple(draw(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 99)), max_size=3))),
            draw(_attributes),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    images = {one.image: images[one.image] for one in functions if one.image}
    texts = {one.text: texts[one.text] for one in functions if one.text}
    nodes = [draw(_nodes(functions, depth)) for _ in range(draw(st.integers(0, 4)))]
    pairs = st.tuples(*[st.integers(0, max(len(nodes) - 1, 0))] * 2)
    kinds = st.sampled_from(["full", "programmatic", "other"])
    edges = [CapturedEdge(*pair, draw(kinds), draw(st.integers(0, 2))) for pair in draw(st.lists(pairs, max_size=3))]
    sizes = draw(st.lists(st.integers(1, 1 << 30), max_size=3))
    kind = st.sampled_from(["device", "host", "managed", "free"])
    memory = [
        MemoryRange((number + 1) << 32, size, draw(kind), draw(_names), draw(st.booleans()))
        for number, size in enumerate(sizes)
    ]
    if not nodes:
        edges = []
    sources: dict[int, HostSource] = {}
    for number in range(draw(st.integers(0, 2))):
        contents = draw(st.binary(max_size=40))
        transfer = Transfer(number << 40, draw(st.integers(0, 1 << 40)), len(contents), 1, len(contents))
        sources[len(nodes)] = HostSource(contents, draw(st.sampled_from(WRITERS)), draw(st.booleans()))
        nodes.append(CapturedNode("memcpy", transfer=transfer))
    return CapturedGraph(
        tuple(nodes), tuple(edges), tuple(functions), images, texts, tuple(memory),
        draw(st.dictionaries(_names, _names, max_size=2)), tuple(draw(st.lists(_names, max_size=2))), sources,
    )  # fmt: skip


@st.composite
def _nodes(draw: st.DrawFn, functions: Sequence[CapturedFunction], depth: int) -> CapturedNode:
    kind = draw(st.sampled_from(["kernel", "memcpy", "host", "graph", "empty"]))
    unsupported = tuple(draw(st.lists(_names, max_size=1)))
    if kind == "kernel" and functions:
        number = draw(st.integers(0, len(functions) - 1))
        sizes = [size for _, size in functions[number].parameters]
        parameters = tuple(draw(st.binary(min_size=size, max_size=size)) for size in sizes)
        return CapturedNode(
            kind, number, draw(_triples), draw(_triples), draw(st.integers(0, 1 << 18)),
            parameters, draw(_attributes), unsupported=unsupported,
        )  # fmt: skip
    if kind == "graph" and depth < 2:
        body = draw(graphs(depth + 1))
        # A body's functions, images and texts are the outer graph's.
        inner = CapturedGraph(tuple(n for n in body.nodes if n.kind != "kernel"), memory=())
        return CapturedNode(kind, body=inner.with_functions(tuple(functions)))
    transfer = draw(st.none() | _transfers) if kind == "memcpy" else None
    return CapturedNode(kind if kind != "kernel" else "empty", transfer=transfer, unsupported=unsupported)
