"""A cache of facts about kernels read from their PTX: each text is parsed once, and each launch analysed once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from forerun.captured.graph import AssembledText, CapturedFunction
from forerun.frontends.ptx_phases import steps_of, unfit
from forerun.ir.kernel import (
    Access,
    BufferParameter,
    Implementation,
    Kernel,
    Parameter,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.types import DType
from forerun.ptx import Function, Module, parse_module, summarise
from forerun.ptx.accesses import Access as TextAccess
from forerun.ptx.accesses import AccessSummary
from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.launched import AtLaunch
from forerun.ptx.ranges import Ranges, Reached
from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.source_version import source_version
from forerun.runtime.toolchain.cache import Cache, cache_at, key_of

__all__ = ["KnownRanges", "KnownText", "KnownTexts"]

_SOURCES = "frontends", "ir", "ptx", "support"
_INTEGERS = {1: DType.U8, 2: DType.U16, 4: DType.U32, 8: DType.U64}
_STEPS: dict[str, Wait | Trigger] = {"wait": Wait(), "trigger": Trigger()}


class KnownRanges:
    """The bytes that launches of one kernel may access; see :class:`~forerun.ptx.ranges.Ranges`.

    Attributes:
        scalars: The parameters whose values affect the accessed bytes.
        size: The number of instructions of the kernel.
        computed: The number of values computed for all launches, now or when the cached entry was made.
    """

    def __init__(self, key: str, scalars: frozenset[str], size: int, make: Callable[[], Ranges]) -> None:
        self.scalars = scalars
        self.size = size
        self.computed = 0
        self._key = key
        self._make = make

    @cached_property
    def _ranges(self) -> Ranges:
        return self._make()

    def reached(self, launch: AtLaunch, most: int) -> dict[str, Reached]:
        """The bytes that a launch accesses through each pointer; see :meth:`~forerun.ptx.ranges.Ranges.reached`."""
        values = [(name, launch.parameters.get(name, b"").hex()) for name in sorted(self.scalars)]
        key = key_of("reached", self._key, repr((launch.grid, launch.block, values, most)))
        stored = _cache().get(key)
        if stored is None:
            before = self._ranges.computed
            reached = self._ranges.reached(launch, most)
            told = {name: (one.start, one.stop, one.is_exact) for name, one in reached.items()}
            stored = json.dumps([self._ranges.computed - before, told]).encode()
            _cache().put(key, stored)
        computed, found = json.loads(stored)
        self.computed += computed
        return {name: Reached(*one) for name, one in found.items()}


@dataclass(frozen=True, slots=True)
class KnownText:
    """The facts about a kernel in its PTX.

    Attributes:
        reason: Why the PTX does not determine all accesses; if not empty, the other attributes are empty.
        kernel: The declared kernel, with parameters ``p0``, ``p1``, ...
        names: The names of the parameters in the PTX.
        ranges: The bytes that its launches may access.
    """

    reason: str = ""
    kernel: Kernel | None = None
    names: tuple[str, ...] = ()
    ranges: KnownRanges | None = None


class KnownTexts:
    """Reads facts about kernels from PTX, or from the cache; each text is parsed at most once."""

    def __init__(self) -> None:
        self._modules: dict[str, Module] = {}

    def read(self, text: AssembledText, function: CapturedFunction, nulls: tuple[bool, ...]) -> KnownText:
        """Read the facts about a function from its PTX, or from the cache.

        Args:
            text: The PTX that was assembled.
            function: The captured function.
            nulls: For each parameter, whether all its bytes are 0.

        Raises:
            InvalidInput: If the PTX is not in the cache and cannot be parsed.
        """
        own = key_of(source_version(*_SOURCES), text.text, function.name)
        key = key_of("text", own, repr((function.parameters, nulls)))
        stored = _cache().get(key)
        if stored is None:
            stored = json.dumps(self._look(text, function, nulls)).encode()
            _cache().put(key, stored)
        about = json.loads(stored)
        if "reason" in about:
            return KnownText(about["reason"])

        def make() -> Ranges:
            entry = self._module(text, function).entry(function.name)
            flow = control_flow(entry)
            return Ranges(flow, summarise(entry, flow))

        ranges = KnownRanges(own, frozenset(about["scalars"]), about["size"], make)
        return KnownText("", _kernel(function, about), tuple(about["names"]), ranges)

    def _module(self, text: AssembledText, function: CapturedFunction) -> Module:
        if function.text not in self._modules:
            self._modules[function.text] = parse_module(text.text, f"{function.name}.ptx")
        return self._modules[function.text]

    def _look(self, text: AssembledText, function: CapturedFunction, nulls: tuple[bool, ...]) -> dict[str, Any]:
        module = self._module(text, function)
        entry = next((one for one in module.entries if one.name == function.name), None)
        if entry is None:
            return {"reason": "its PTX has no kernel of its name"}
        flow = control_flow(entry)
        summary = summarise(entry, flow)
        reason = unfit(module, entry, flow, summary, function)
        if reason:
            return {"reason": reason}
        ranges = Ranges(flow, summary)
        about = {"names": [one.name for one in entry.parameters or ()], "size": ranges.size}
        return {**about, "scalars": sorted(ranges.scalars), **_told(entry, flow, summary, nulls)}


def _told(entry: Function, flow: ControlFlow, summary: AccessSummary, nulls: tuple[bool, ...]) -> dict[str, Any]:
    """The kernel's parameters and steps, with a phase for each parameter that is only loaded from."""
    names = {one.name: f"p{number}" for number, one in enumerate(entry.parameters or ())}
    accesses: dict[str, list[TextAccess]] = {}
    for access in summary.global_accesses:
        for root in access.roots & names.keys():
            accesses.setdefault(names[root], []).append(access)
    own = [(f"p{number}", one.bytes) for number, one in enumerate(entry.parameters or ())]
    pointers = [n for number, (n, size) in enumerate(own) if size == 8 and n in accesses and not nulls[number]]
    used = {name: found for name, found in accesses.items() if name in pointers}
    return {"sizes": dict(own), "pointers": pointers, "steps": [_step(one) for one in steps_of(flow, summary, used)]}


def _step(step: Step) -> Any:
    if isinstance(step, Phase):
        return [step.name, *([access.parameter for access in one] for one in (step.reads, step.writes))]
    return next(name for name, one in _STEPS.items() if one == step)


def _kernel(function: CapturedFunction, about: dict[str, Any]) -> Kernel:
    parameters: list[Parameter] = []
    for name, size in about["sizes"].items():
        is_pointer = name in about["pointers"]
        kind = BufferParameter if is_pointer else ScalarParameter
        parameters.append(kind(name, DType.U8 if is_pointer else _INTEGERS[size]))
    steps: list[Step] = []
    for one in about["steps"]:
        if isinstance(one, str):
            steps.append(_STEPS[one])
        else:
            name, reads, writes = one
            steps.append(Phase(name, tuple(map(Access, reads)), tuple(map(Access, writes))))
    code = Implementation("ptx", f"ptx/{function.text}.ptx", function.name)
    return Kernel(function.name, tuple(parameters), (Role("all", tuple(steps)),), (code,))


def _cache() -> Cache:
    return cache_at(cache_folder() / "toolchain")
