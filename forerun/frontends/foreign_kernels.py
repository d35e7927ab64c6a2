"""Kernels that others compiled, for graphs of one's own: what their phases access is read from their PTX."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forerun.captured.graph import CapturedFunction, digest_of
from forerun.frontends.ptx_phases import steps_of, unfit
from forerun.ir.kernel import BufferParameter, Implementation, Kernel, Parameter, Phase, Role, ScalarParameter
from forerun.ir.nodes import Launch
from forerun.ir.text.kernel_reader import read_parameters
from forerun.ir.trust import vouch
from forerun.ir.types import DType
from forerun.ptx import Function, Module, parse_module, summarise
from forerun.ptx.accesses import Access as TextAccess
from forerun.ptx.cfg import control_flow
from forerun.runtime.cache_folder import cache_folder
from forerun.support.diagnostics import InvalidInput, did_you_mean
from forerun.support.files import read_regular, write_whole

__all__ = ["ForeignKernel", "foreign_kernel"]

_MOST_BYTES = 1 << 26
_WARP = 32


@dataclass(frozen=True, slots=True)
class ForeignKernel:
    """A kernel that somebody else compiled. Made by :func:`foreign_kernel`.

    Attributes:
        KERNEL: Its declaration, which :meth:`GraphBuilder.launch` takes.
        threads: Threads a CTA, as it was compiled for; 0 if its text does not tell.
        shared_bytes: Dynamic shared memory a CTA; 0 if nothing is known of it.
        scratch: Values of parameters that its compiler added: null pointers that it does not use.
        reason: Why it is a black box, which keeps full dependencies; empty if it is none.
    """

    KERNEL: Kernel
    threads: int = 0
    shared_bytes: int = 0
    scratch: Mapping[str, int] | None = None
    reason: str = ""

    def launch(self, *ctas: int, threads: int = 0) -> Launch:
        """A launch of that many CTAs in x, y and z.

        Raises:
            InvalidInput: If the text does not tell how many threads a CTA has, and nobody says it.
        """
        count = threads or self.threads
        if not count:
            raise InvalidInput(f"kernel '{self.KERNEL.name}': its PTX has no .reqntid", hint="launch(..., threads=128)")
        x, y, z = (*ctas, 1, 1, 1)[:3]
        return Launch((x, y, z), (count, 1, 1), self.shared_bytes)


def foreign_kernel(
    source: Any, parameters: str, *, entry: str = "", fills: Collection[str] = (), shared_bytes: int = 0
) -> ForeignKernel:
    """A kernel of PTX, of NVRTC or of Triton, as a kernel of forerun's.

    What is loaded and stored through each pointer follows from the text; loads of what nobody writes can move ahead of
    the wait that the compiler puts in. Which bytes are stored does not: see ``fills``.

    Args:
        source: PTX, the path of a file with PTX, or what Triton returns of a launch or of ``warmup`` (it has ``asm``).
            The text is vouched for.
        parameters: The parameters in the order of the text, in the words of the text form:
            ``"w: bf16[N, K], x: bf16[K], y: bf16[N], rows: scalar i32"``. What Triton adds behind them is left out.
        entry: The kernel's name in the text; by default its only one.
        fills: Buffers of which the kernel stores every byte, whenever it runs. Others count as read, too, since some of
            their bytes may stay.
        shared_bytes: Dynamic shared memory a CTA; of Triton's kernels it is known.

    Raises:
        InvalidInput: If the text cannot be read, or the parameters are not its own.

    Example:
        >>> text = '''.version 9.0
        ... .target sm_90
        ... .visible .entry copy(.param .u64 .ptr .global x, .param .u64 .ptr .global y) .reqntid 32 {
        ...     .reg .b64 %rd<3>; .reg .b32 %r<2>;
        ...     ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y];
        ...     ld.global.u32 %r1, [%rd1]; st.global.u32 [%rd2], %r1;
        ...     ret;
        ... }'''
        >>> made = foreign_kernel(text, "x: u32[1], y: u32[1]", fills=["y"])
        >>> [(phase.name, len(phase.reads), len(phase.writes)) for phase in made.KERNEL.phases]
        [('load_x', 1, 0), ('store', 0, 1)]
    """
    text, shared = _text(source, shared_bytes)
    module = parse_module(text, "foreign.ptx")
    function = _entry(module, entry)
    about = f"kernel '{function.name}'"
    declared = read_parameters(parameters, about)
    own = function.parameters or ()
    _require_fit(about, declared, function)
    scratch = [ScalarParameter(f"scratch{number}", DType.U64) for number in range(len(own) - len(declared))]
    kernel, reason = _kernel(module, function, (*declared, *scratch), frozenset(fills))
    code = Implementation("ptx", str(_file(source, text)), function.name)
    vouch(Path(code.source))
    threads = function.directive(".reqntid") or ()
    count = threads[0] if len(threads) == 1 or set(threads[1:]) == {1} else 0
    return ForeignKernel(
        replace(kernel, implementations=(code,)), count, shared, {one.name: 0 for one in scratch}, reason
    )


def _text(source: Any, shared_bytes: int) -> tuple[str, int]:
    """The PTX, and the dynamic shared memory that goes with it."""
    compiled = getattr(source, "asm", None)
    if compiled is not None and "ptx" in compiled:
        return str(compiled["ptx"]), int(getattr(source.metadata, "shared", shared_bytes))
    if isinstance(source, str) and ".entry" in source:
        return source, shared_bytes
    if isinstance(source, str | Path):
        return read_regular(source, most=_MOST_BYTES).decode(errors="replace"), shared_bytes
    hint = "PTX, the path of a file, or a kernel that Triton compiled"
    raise InvalidInput(f"{type(source).__name__} has no PTX", hint=hint)


def _file(source: Any, text: str) -> Path:
    """Where the text lies: its own file, or one in the cache folder."""
    if isinstance(source, Path) or (isinstance(source, str) and ".entry" not in source):
        return Path(source).absolute()
    place = cache_folder() / "ptx" / f"{digest_of(text)}.ptx"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, text)
    return place


def _entry(module: Module, name: str) -> Function:
    names = [one.name for one in module.entries]
    if not name and len(names) == 1:
        return module.entries[0]
    if name not in names:
        hint = did_you_mean(name, names) if name else f"entry='{names[0]}'" if names else ""
        which = f"no kernel '{name}'" if name else f"{len(names)} kernels"
        raise InvalidInput(f"the PTX has {which}: {', '.join(names) or 'it has none'}", hint=hint)
    return module.entry(name)


def _require_fit(about: str, declared: tuple[Parameter, ...], function: Function) -> None:
    own = function.parameters or ()
    if len(declared) > len(own):
        raise InvalidInput(f"{about}: {len(declared)} parameters are declared, and its PTX has {len(own)}")
    for number, one in enumerate(own):
        size = 8
        if number < len(declared):
            parameter = declared[number]
            size = 8 if isinstance(parameter, BufferParameter) else parameter.dtype.itemsize
        if one.bytes != size:
            what = f"'{declared[number].name}' has {size}" if number < len(declared) else "is not declared"
            raise InvalidInput(f"{about}: parameter {number} of its PTX has {one.bytes} bytes, and {what}")


def _kernel(
    module: Module, function: Function, parameters: tuple[Parameter, ...], fills: frozenset[str]
) -> tuple[Kernel, str]:
    """The declaration, and why it is a black box if it is one."""
    flow = control_flow(function)
    summary = summarise(function, flow)
    names = {theirs.name: ours.name for theirs, ours in zip(function.parameters or (), parameters, strict=True)}
    layout = tuple((0, one.bytes) for one in function.parameters or ())
    reason = unfit(module, function, flow, summary, CapturedFunction(function.name, parameters=layout))
    if reason:
        return Kernel(function.name, parameters), reason
    accesses: dict[str, list[TextAccess]] = {}
    for access in summary.global_accesses:
        for root in access.roots & names.keys():
            accesses.setdefault(names[root], []).append(access)
    buffers = {p.name for p in parameters if isinstance(p, BufferParameter)}
    for name, found in accesses.items():
        if name not in buffers:
            message = f"kernel '{function.name}': line {found[0].line} accesses memory through '{name}', a scalar"
            raise InvalidInput(message, hint=f"declare it: '{name}: u8[N]'")
    unknown = next((name for name in fills if not any(a.kind != "read" for a in accesses.get(name, []))), None)
    if unknown is not None:
        raise InvalidInput(f"kernel '{function.name}' stores nothing through '{unknown}', which it is said to fill")
    filled = {name for name in fills if all(access.kind == "write" for access in accesses[name])}
    steps = [_filling(step, filled) if isinstance(step, Phase) else step for step in steps_of(flow, summary, accesses)]
    return Kernel(function.name, parameters, (Role("all", tuple(steps)),)), ""


def _filling(phase: Phase, filled: Collection[str]) -> Phase:
    """A phase that does not read what it fills."""
    reads = tuple(one for one in phase.reads if one.parameter not in filled or one not in phase.writes)
    return replace(phase, reads=reads)
