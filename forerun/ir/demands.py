"""What code a graph asks for, and the refusal of what nobody vouches for. Nothing is imported or opened here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from forerun.ir import nodes, trust
from forerun.ir.graph import Graph
from forerun.ir.text.spelling import quote, reference
from forerun.ir.walk import all_nodes
from forerun.support.diagnostics import InvalidInput

__all__ = [
    "Demand",
    "demands",
    "is_function_vouched",
    "is_source_vouched",
    "refusal",
    "require_vouched",
    "split_function",
    "split_source",
]

_MOST_OWNERS = 12
_MOST_TEXTS = 3


@dataclass(frozen=True, slots=True)
class Demand:
    """Code that a graph asks for.

    Attributes:
        kind: ``ref`` (the NumPy function of a phase), ``host`` (the function of a host call), or the language of a
            kernel's source.
        text: What the graph says: ``module:function``, ``package:resource`` or a path.
        where: The kernel or the node.
    """

    kind: str
    text: str
    where: str

    @property
    def is_vouched(self) -> bool:
        """Whether somebody vouches for it here."""
        return is_function_vouched(self.text) if self.kind in ("ref", "host") else is_source_vouched(self.text)

    @property
    def module(self) -> str:
        """The module or package that it belongs to; empty if the text names none."""
        if self.kind in ("ref", "host"):
            return (split_function(self.text) or ("", ""))[0]
        return split_source(self.text)[0]


def split_function(text: str) -> tuple[str, str] | None:
    """The module and the function that ``module:function`` names; ``None`` if it is not of that form.

    The function is one name: nothing leads from it into what the module has imported.
    """
    module, _, function = text.partition(":")
    return (module, function) if trust.is_module_name(module) and function.isidentifier() else None


def split_source(location: str) -> tuple[str, str]:
    """The package and the resource that ``package:resource`` names; no package, and the path, if it is a path."""
    package, colon, resource = location.rpartition(":")
    is_resource = colon and trust.is_module_name(package) and "/" not in resource and "\\" not in resource
    return (package, resource) if is_resource else ("", location)


def is_function_vouched(text: str) -> bool:
    """Whether somebody vouches for ``module:function``: the program registered it, or its module is trusted."""
    if trust.registered_function(text) is not None:
        return True
    named = split_function(text)
    return named is not None and (trust.is_own_function_module(named[0]) or named[0] in trust.trusted().modules)


def is_source_vouched(location: str) -> bool:
    """Whether somebody vouches for a kernel's source: it is registered, or its package or that file is trusted."""
    if trust.registered_source(location) is not None:
        return True
    package, path = split_source(location)
    if package:
        is_known = package in trust.OWN_SOURCE_PACKAGES or package in trust.trusted().modules
        return is_known and path.endswith(trust.SOURCE_SUFFIXES)
    try:
        return bool(trust.trusted().files) and Path(path).resolve() in trust.trusted().files
    except (OSError, ValueError):  # too long, a circle of links, or a zero in the name
        return False


def demands(graph: Graph, *, functions: bool = True, sources: bool = True) -> Iterator[Demand]:
    """All code that a graph asks for, once a kernel and once a host call.

    That is the NumPy functions of phases, the sources of kernels, and the functions of host calls.
    """
    found = [node for _, node in all_nodes(graph)]
    used = dict.fromkeys(node.kernel for node in found if isinstance(node, nodes.KernelNode))
    for kernel in (graph.kernels[name] for name in used if name in graph.kernels):
        where = f"kernel {reference('@', kernel.name)}"
        if functions:
            for phase in kernel.phases:
                if phase.reference is not None:
                    yield Demand("ref", phase.reference, where)
        if sources:
            yield from (Demand(i.language, i.source, where) for i in kernel.implementations)
    for node in found:
        match node:
            case nodes.HostCallbackNode():
                yield Demand("host", node.function, f"node {reference('#', node.name)}")
            case nodes.KernelNode() | nodes.ChildGraphNode() | nodes.ConditionalNode():
                pass  # kernels are asked for above, once each
            case nodes.MemcpyNode() | nodes.MemsetNode() | nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode():
                pass
            case nodes.EventRecordNode() | nodes.EventWaitNode():
                pass
            case _:
                assert_never(node)


def require_vouched(graph: Graph, *, functions: bool = True, sources: bool = True) -> None:
    """Refuse a graph that asks for code that nobody vouches for.

    ``functions`` are those of phases, which a target will call; ``sources`` are those that it will compile or load.

    Raises:
        InvalidInput: If it does, with all that it asks for and how to allow it.
    """
    asked = [demand for demand in demands(graph, functions=functions, sources=sources) if not demand.is_vouched]
    if asked:
        raise refusal(f"graph {quote(graph.name)}", asked)


def refusal(who: str, asked: list[Demand]) -> InvalidInput:
    """The error of ``who``: all that is asked for, by the module that it belongs to, and how to allow it."""
    owners: dict[str, list[Demand]] = {}
    for demand in asked:
        owners.setdefault(_plain(demand.module or quote(demand.text)), []).append(demand)
    shown = [f"{name} ({_told(of_owner)})" for name, of_owner in list(owners.items())[:_MOST_OWNERS]]
    more = [f"and {len(owners) - _MOST_OWNERS} more"] if len(owners) > _MOST_OWNERS else []
    message = f"{who} asks for code that nobody vouched for: {', '.join([*shown, *more])}"
    return InvalidInput(message, hint=_how_to_allow(asked))


def _plain(text: str) -> str:
    """ASCII, everything else escaped: letters of other alphabets look like those of forerun's own names."""
    return text.encode("ascii", "backslashreplace").decode()


def _told(asked: list[Demand]) -> str:
    texts = list(dict.fromkeys(f"{demand.kind} {_plain(quote(demand.text))}" for demand in asked))
    shown = ", ".join(texts[:_MOST_TEXTS]) + (f" and {len(texts) - _MOST_TEXTS} more" if texts[_MOST_TEXTS:] else "")
    first, *rest = dict.fromkeys(demand.where for demand in asked)
    return f"{shown}; {first}{f' and {len(rest)} more' if rest else ''}"


def _how_to_allow(asked: list[Demand]) -> str:
    modules = dict.fromkeys(demand.module for demand in asked if demand.module)
    files = dict.fromkeys(d.text for d in asked if not d.module and d.kind not in ("ref", "host"))
    named = [*modules, *(name for name in files if name.endswith(trust.SOURCE_SUFFIXES))]
    usable = [name for name in named if name.isascii()][:_MOST_OWNERS]
    if not usable:
        hint = "a function is named module:function, a source package:file.cu"
        return "some names are not of plain letters, and may look like others" if named else hint
    loads = " ".join(f"--load {name}" if name in modules else f"--load {quote(name)}" for name in usable)
    names = ", ".join(quote(name) for name in usable)
    return f"if you trust them, pass {loads}; in Python trust=[{names}]"
