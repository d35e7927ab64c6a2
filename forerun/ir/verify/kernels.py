"""Invariants of kernels."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.ir.buffer import ALLOCATION_ALIGNMENT
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, Barrier, BufferParameter, Kernel, Phase, Role, Wait
from forerun.support.diagnostics import Diagnostic, Location, did_you_mean

__all__ = ["check"]


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of K1 to K12 (and G1 for names)."""
    for kernel in graph.kernels.values():
        at = Location("kernel", kernel.name)
        if not all([kernel.name, *(p.name for p in kernel.parameters), *(p.name for p in kernel.phases)]):
            yield Diagnostic("G1", "a kernel, parameter or phase has no name", at)
        yield from _unique(kernel)
        yield from _needs(kernel)
        if kernel.roles == ():
            yield Diagnostic("K9", "has no role", at, "a kernel of which nothing is known is declared opaque")
        for phase in kernel.phases:
            yield from _phase(kernel, phase)
        yield from _locals(kernel)
        yield from _barriers(kernel)
        for role in kernel.roles or ():
            waits = sum(isinstance(step, Wait) for step in role.steps)
            if waits > 1:
                yield Diagnostic("K10", f"role '{role.name}' waits {waits} times", at)


def _needs(kernel: Kernel) -> Iterator[Diagnostic]:
    """K11 and K12."""
    for parameter in kernel.buffer_parameters:
        align, least = parameter.align, parameter.dtype.itemsize
        if align is not None and not (least <= align <= ALLOCATION_ALIGNMENT and align & (align - 1) == 0):
            message = f"'{parameter.name}' is aligned to {align} bytes; allowed are powers of two from {least} to 256"
            yield Diagnostic("K11", message, Location("kernel", kernel.name, detail=parameter.name))
    for name, span in kernel.launches.spans() if kernel.launches is not None else ():
        least = 0 if name == "shared" else 1
        if not (least <= span.start <= span.stop and span.step >= 1):
            message = f"{name}({span}) is not in order, from {least} on"
            yield Diagnostic("K12", message, Location("kernel", kernel.name))


def _unique(kernel: Kernel) -> Iterator[Diagnostic]:
    groups = {
        "parameter": [p.name for p in kernel.parameters],
        "role": [role.name for role in kernel.roles or ()],
        "phase": [phase.name for phase in kernel.phases],
    }
    for what, names in groups.items():
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Diagnostic("K1", f"{what} '{name}' occurs twice", Location("kernel", kernel.name, detail=name))


def _phase(kernel: Kernel, phase: Phase) -> Iterator[Diagnostic]:
    for access in (*phase.reads, *phase.writes):
        yield from _access(kernel, phase, access)
    scalars = [p.name for p in kernel.scalar_parameters]
    for name in phase.scalars:
        if name not in scalars:
            at = Location("phase", f"{kernel.name}.{phase.name}", detail=name)
            yield Diagnostic("K4", f"no scalar parameter '{name}'", at, did_you_mean(name, scalars))


def _access(kernel: Kernel, phase: Phase, access: Access) -> Iterator[Diagnostic]:
    at = Location("phase", f"{kernel.name}.{phase.name}", detail=access.parameter)
    parameter = kernel.parameter(access.parameter)
    if not isinstance(parameter, BufferParameter):
        hint = did_you_mean(access.parameter, [p.name for p in kernel.buffer_parameters])
        yield Diagnostic("K2", f"no buffer parameter '{access.parameter}'", at, hint)
        return
    if parameter.dims is not None and len(access.region.slices) > len(parameter.dims):
        count = len(access.region.slices)
        message = f"{count} slices of '{access.parameter}', which has {len(parameter.dims)} dimensions"
        yield Diagnostic("K2", message, at)
    known = {p.name for p in kernel.scalar_parameters if not p.dtype.is_float}
    known |= {d for p in kernel.buffer_parameters for d in p.dims or () if isinstance(d, str)}
    for symbol in access.region.symbols:
        if symbol not in known:
            message = f"'{symbol}' in {access} is neither an integer scalar parameter nor a dimension"
            yield Diagnostic("K3", message, at, did_you_mean(symbol, sorted(known)))


def _locals(kernel: Kernel) -> Iterator[Diagnostic]:
    """K5 and K6. A definer in another role must be a barrier away: in an earlier stretch between barriers."""
    given: dict[str, tuple[str, int, int]] = {}
    for role in kernel.roles or ():
        for stretch, position, phase in _stretches(role):
            for name in phase.defines:
                if name in given:
                    at = Location("phase", f"{kernel.name}.{phase.name}", detail=name)
                    yield Diagnostic("K5", f"local '{name}' is defined twice", at)
                given[name] = (role.name, stretch, position)
    for role in kernel.roles or ():
        for stretch, position, phase in _stretches(role):
            for name in phase.uses:
                definer = given.get(name)
                at = Location("phase", f"{kernel.name}.{phase.name}", detail=name)
                if definer is None:
                    yield Diagnostic("K6", f"no phase defines local '{name}'", at, did_you_mean(name, given))
                elif definer[0] == role.name and definer[2] >= position:
                    yield Diagnostic("K6", f"uses local '{name}' before it is defined", at)
                elif definer[0] != role.name and definer[1] >= stretch:
                    message = f"uses local '{name}' of role '{definer[0]}' without a barrier in between"
                    yield Diagnostic("K6", message, at)


def _stretches(role: Role) -> Iterator[tuple[int, int, Phase]]:
    """Each phase with the number of barriers before it and its position."""
    return ((barriers, position, step) for position, barriers, step in role.placed() if isinstance(step, Phase))


def _barriers(kernel: Kernel) -> Iterator[Diagnostic]:
    at = Location("kernel", kernel.name, detail="barrier")
    scopes = [[step.scope for step in role.steps if isinstance(step, Barrier)] for role in kernel.roles or ()]
    for scope in sorted({scope for found in scopes for scope in found} - {"cta", "grid"}):
        yield Diagnostic("K8", f"barrier scope '{scope}' is not 'cta' or 'grid'", at)
    if any(found != scopes[0] for found in scopes):
        counts = zip(kernel.roles or (), map(len, scopes), strict=True)
        listed = ", ".join(f"'{role.name}': {count}" for role, count in counts)
        yield Diagnostic("K7", f"roles execute different barriers ({listed})", at)
