"""A captured graph as a folder: ``capture.json``, ``images/DIGEST.cubin``, ``ptx/DIGEST.ptx``."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from forerun.captured.graph import (
    MOST_SOURCE_BYTES,
    WRITERS,
    AssembledText,
    CapturedEdge,
    CapturedFunction,
    CapturedGraph,
    CapturedNode,
    HostSource,
    MemoryRange,
    Transfer,
    digest_of,
)
from forerun.support.diagnostics import InvalidInput
from forerun.support.files import read_regular, require_writable_folder, write_whole
from forerun.support.json_reader import JsonObject, read_json

__all__ = ["FILE", "load_capture", "save_capture"]

FILE = "capture.json"
_FORMAT = "forerun capture"
_VERSION = 1
_MOST_BYTES = 1 << 30
_MOST_DEPTH = 16
_MOST_PORT = 255
_HINT = "a folder that CapturedGraph was saved to with save_capture() holds it"


def save_capture(graph: CapturedGraph, folder: str | Path) -> Path:
    """Write a captured graph to a folder, which is made if it is not there.

    Raises:
        InvalidInput: If the folder cannot be written.
    """
    place = Path(folder)
    for inner in (place, place / "images", place / "ptx"):
        require_writable_folder(inner)
    for digest, code in graph.images.items():
        (place / "images" / f"{digest}.cubin").write_bytes(code)
    for digest, text in graph.texts.items():
        write_whole(place / "ptx" / f"{digest}.ptx", text.text)
    about = {"format": _FORMAT, "version": _VERSION, **_graph_to_json(graph)}
    about["functions"] = [_function_to_json(one) for one in graph.functions]
    about["texts"] = {
        digest: {"options": list(text.options), "assembler": text.assembler, "origin": text.origin}
        for digest, text in graph.texts.items()
    }
    write_whole(place / FILE, json.dumps(about, indent=1) + "\n")
    return place


def load_capture(folder: str | Path) -> CapturedGraph:
    """Read a captured graph from its folder; images and texts are compared with their digests.

    Raises:
        InvalidInput: If something is missing, broken, or not what its digest says.
    """
    place = Path(folder)
    found = read_json(place / FILE, what="the captured graph", hint=_HINT)
    found.require("format", _FORMAT, "a captured graph")
    found.require("version", _VERSION, "a captured graph")
    texts: dict[str, AssembledText] = {}
    about = found.inside("texts", optional=True)
    for digest in about:
        own = about.inside(digest)
        text = _content(place / "ptx" / f"{_plain(digest)}.ptx", digest).decode(errors="replace")
        options = tuple(own.list_of("options", str))
        texts[digest] = AssembledText(text, options, own.text("assembler"), own.text("origin"))
    functions = tuple(_function_from_json(one) for one in found.each("functions"))
    graph = _graph_from_json(found, functions, 0)
    images = {f.image: _content(place / "images" / f"{_plain(f.image)}.cubin", f.image) for f in functions if f.image}
    missing = next((f.text for f in functions if f.text and f.text not in texts), None)
    if missing is not None:
        raise found.error(f"a function refers to text {missing}, which is not there", "texts")
    return replace(graph, images=images, texts=texts)


def _plain(digest: str) -> str:
    """A digest that may be a file's name."""
    if len(digest) != 32 or set(digest) - set("0123456789abcdef"):
        raise InvalidInput(f"'{digest}' is not a digest: 32 hexadecimal digits", hint=_HINT)
    return digest


def _content(path: Path, digest: str) -> bytes:
    data = read_regular(path, most=_MOST_BYTES)
    if digest_of(data) != digest:
        raise InvalidInput(f"{path} was changed: its content is not what its name says", hint="capture the graph again")
    return data


def _graph_to_json(graph: CapturedGraph) -> dict[str, Any]:
    """All but the functions, which child graphs share with the graph around them."""
    found: dict[str, Any] = {
        "machine": dict(graph.machine),
        "remarks": list(graph.remarks),
        "memory": [
            {"address": one.address, "size": one.size, "kind": one.kind, "name": one.name, "whole": one.whole}
            for one in graph.memory
        ],
        "nodes": [_node_to_json(one) for one in graph.nodes],
        "edges": [[one.source, one.target, one.kind, one.from_port, one.to_port] for one in graph.edges],
    }
    if graph.host_sources:
        found["host_sources"] = {
            str(number): {"contents": _encoded(one.contents), "writers": one.writers, "changed": one.changed}
            for number, one in graph.host_sources.items()
        }
    return found


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _function_to_json(one: CapturedFunction) -> dict[str, Any]:
    parameters = [list(pair) for pair in one.parameters]
    own = {"name": one.name, "image": one.image, "text": one.text, "parameters": parameters}
    return {**own, "attributes": dict(one.attributes)}


def _node_to_json(one: CapturedNode) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": one.kind}
    if one.kind == "kernel":
        found |= {"function": one.function, "grid": one.grid, "block": one.block, "shared": one.shared_bytes}
        found |= {"parameters": [_encoded(data) for data in one.parameters]}
    if one.attributes:
        found["attributes"] = dict(one.attributes)
    if one.transfer is not None:
        found["transfer"] = {name: getattr(one.transfer, name) for name in Transfer.__dataclass_fields__}
    if one.body is not None:
        found["body"] = _graph_to_json(one.body)
    if one.unsupported:
        found["unsupported"] = list(one.unsupported)
    return found


def _graph_from_json(found: JsonObject, functions: tuple[CapturedFunction, ...], depth: int) -> CapturedGraph:
    if depth > _MOST_DEPTH:
        raise found.error(f"child graphs are nested more than {_MOST_DEPTH} deep", "nodes")
    nodes = tuple(_node_from_json(one, functions, depth) for one in found.each("nodes"))
    machine = found.inside("machine")
    return CapturedGraph(
        nodes,
        tuple(_edges_from_json(found, len(nodes))),
        functions,
        memory=_memory_from_json(found),
        machine={key: machine.text(key) for key in machine},
        remarks=tuple(found.list_of("remarks", str)),
        host_sources=dict(_sources_from_json(found.inside("host_sources", optional=True), nodes)),
    )


def _sources_from_json(found: JsonObject, nodes: Sequence[CapturedNode]) -> Iterator[tuple[int, HostSource]]:
    for key in found:
        number = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else len(nodes)
        transfer = nodes[number].transfer if number < len(nodes) else None
        if transfer is None or transfer.source is None or not transfer.is_contiguous:
            raise found.error("it is not the number of a node that copies bytes side by side", key)
        one = found.inside(key)
        contents = _decoded(one, one.text("contents"), "contents")
        if len(contents) != transfer.width * transfer.rows or len(contents) > MOST_SOURCE_BYTES:
            raise one.error(f"it has {len(contents)} bytes, which is not what the node copies", "contents")
        writers = next((one_of for one_of in WRITERS if one_of == one.text("writers")), None)
        if writers is None:
            raise one.error(f"it must be one of {', '.join(WRITERS)}", "writers")
        yield number, HostSource(contents, writers, one.flag("changed"))


def _decoded(one: JsonObject, text: str, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii's own, and that of text that is not ASCII
        raise one.error(f"{text!r} is not base64", key) from error


def _edges_from_json(found: JsonObject, nodes: int) -> list[CapturedEdge]:
    edges = []
    for entry in found.list_of("edges", list):
        match entry:
            case [int(source), int(target), "full" | "programmatic" | "other" as kind, int(port), int(to)] if (
                0 <= source < nodes
                and 0 <= target < nodes
                and 0 <= min(port, to) <= max(port, to) <= _MOST_PORT
                and bool not in map(type, entry)
            ):
                edges.append(CapturedEdge(source, target, kind, port, to))
            case _:
                raise found.error(f"{entry!r} is not an edge: [source, target, kind, port, port]", "edges")
    return edges


def _memory_from_json(found: JsonObject) -> tuple[MemoryRange, ...]:
    most = (1 << 64) - 1
    ranges = []
    for one in found.each("memory"):
        address = one.integer("address", most=most)
        size = one.integer("size", least=1, most=most + 1 - address)
        ranges.append(MemoryRange(address, size, one.text("kind"), one.text("name"), one.flag("whole")))
    ranges.sort(key=lambda memory: memory.address)
    for before, after in pairwise(ranges):
        if after.address < before.stop:
            raise found.error(f"ranges overlap at {after.address:#x}", "memory")
    return tuple(ranges)


def _function_from_json(one: JsonObject) -> CapturedFunction:
    parameters = one.list_of("parameters", list)
    for pair in parameters:
        if len(pair) != 2 or not all(type(number) is int and 0 <= number < 1 << 16 for number in pair):
            raise one.error(f"{pair!r} is not offset and size of a parameter", "parameters")
    attributes = one.inside("attributes")
    own = {key: attributes.integer(key, least=-(1 << 31)) for key in attributes}
    layout = tuple((offset, size) for offset, size in parameters)
    return CapturedFunction(one.text("name"), one.text("image"), one.text("text"), layout, own)


def _node_from_json(one: JsonObject, functions: tuple[CapturedFunction, ...], depth: int) -> CapturedNode:
    attributes = one.inside("attributes", optional=True)
    kind = one.text("kind")
    function = one.integer("function", most=len(functions) - 1) if kind == "kernel" else -1
    parameters = _parameters_from_json(one)
    unsupported = tuple(one.list_of("unsupported", str, optional=True))
    needed = [size for _, size in functions[function].parameters] if kind == "kernel" else []
    # The driver does not tell those that were given as one block; then the node says so.
    if _sizes(parameters) != needed and (parameters or not unsupported):
        raise one.error("they are not those of the function", "parameters")
    return CapturedNode(
        kind,
        function,
        _triple(one, "grid"),
        _triple(one, "block"),
        one.integer("shared", 0),
        tuple(parameters),
        {key: attributes.integer(key, least=-(1 << 31)) for key in attributes},
        _transfer_from_json(one.inside("transfer")) if "transfer" in one else None,
        _graph_from_json(one.inside("body"), functions, depth + 1) if "body" in one else None,
        unsupported,
    )


def _parameters_from_json(one: JsonObject) -> list[bytes]:
    return [_decoded(one, text, "parameters") for text in one.list_of("parameters", str, optional=True)]


def _sizes(parameters: Sequence[bytes]) -> list[int]:
    return [len(data) for data in parameters]


def _triple(one: JsonObject, key: str) -> tuple[int, int, int]:
    if key not in one:
        return (1, 1, 1)
    match one.list_of(key, int):
        case [x, y, z] if min(x, y, z) > 0:
            return x, y, z
    raise one.error("three positive numbers are needed", key)


def _transfer_from_json(one: JsonObject) -> Transfer:
    most = (1 << 64) - 1
    numbers: Mapping[str, int] = {
        name: one.integer(name, most=most) for name in Transfer.__dataclass_fields__ if name != "source"
    }
    source = one.integer("source", most=most) if "source" in one else None
    return Transfer(source, **numbers)
