"""Delays in the text of a kernel, before stores and waits and around triggers: they show what a wrong verdict hides."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from forerun.ptx.accesses import AccessSummary, summarise
from forerun.ptx.additions import additions, with_parameter
from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.opcodes import is_trigger, is_wait
from forerun.ptx.parser import parse_module
from forerun.ptx.printer import print_module

__all__ = ["DELAY", "PLACES", "Place", "Sleepers", "delay_word", "delayed"]

DELAY = "forerun_delay"
"""The parameter that says how long, how often and where."""

Place: TypeAlias = Literal["store", "wait", "trigger"]

PLACES: tuple[Place, ...] = ("store", "wait", "trigger")

Sleepers: TypeAlias = Literal["warps", "CTAs", "end CTAs"]
"""Who sleeps: warps, chosen at each place; whole CTAs, at all places; or the first and last CTA along each axis."""

_SLEEPERS: tuple[Sleepers, ...] = ("warps", "CTAs", "end CTAs")

_REGISTERS = """
	.reg .pred %delay_p, %delay_q;
	.reg .b32 %delay_t, %delay_s, %delay_k, %delay_i, %delay_x, %delay_e;
	.reg .b64 %delay_w;"""

_COORDINATES = ("%ctaid.x", "%ctaid.y", "%ctaid.z")
_OF_WARP = ("%tid.y", "%tid.z")
_FACTORS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1, 0x2C1B3C6D)
"""Odd numbers whose products are spread well; the last one is that of the warp."""

_MOST_NANOSECONDS = 1_000_000
"""What nanosleep takes (PTX ISA, "nanosleep")."""


def delay_word(seed: int, nanoseconds: int, share: float = 0.25, sleepers: Sleepers = "warps") -> int:
    """What a kernel with delays gets as its last parameter.

    Args:
        seed: By which warps or CTAs are chosen.
        nanoseconds: How long, about: the GPU sleeps between nothing and twice that.
        share: Which part of the warps or CTAs sleeps; 1 is all of them.
        sleepers: Whether single warps sleep, others at each place; or CTAs, whose warps sleep at every place, while the
            others are not delayed. End CTAs are few, whatever the share is.

    Example:
        >>> hex(delay_word(3, 1000, 1))
        '0x3ff0003e8'
    """
    most = min(nanoseconds, _MOST_NANOSECONDS)
    part = max(min(round(256 * share) - 1, 255), 0) if nanoseconds > 0 else 0
    return (seed & 0xFFFFFFFF) << 32 | part << 24 | _SLEEPERS.index(sleepers) << 20 | most


def delayed(text: str, name: str, places: Collection[Place] = PLACES) -> str:
    """Let a kernel sleep at some places. What it computes stays, and no thread goes another way.

    Args:
        text: PTX.
        name: The kernel. It gets one more parameter of 64 bits, which :func:`delay_word` makes.
        places: Before each ``store`` that others may see (atomics count), before each ``wait``, before and after each
            ``trigger``.

    Raises:
        InvalidInput: If the text cannot be read.
        KeyError: If there is no such kernel.
    """
    module = parse_module(text, name)
    function = module.entry(name)
    flow = control_flow(function)
    found = {index: place for index, place in _places(flow, summarise(function, flow)) if place in places}
    before = {index: _sleep(index) for index in found}
    after = {index: _sleep(index + len(flow.instructions)) for index, place in found.items() if place == "trigger"}
    body = tuple(additions(flow, function.body or (), _REGISTERS, _front(), before, after))
    return print_module(module.with_function(with_parameter(replace(function, body=body), DELAY)))


def _places(flow: ControlFlow, summary: AccessSummary) -> Iterator[tuple[int, Place]]:
    """The instructions at which there may be a delay."""
    for index in sorted(flow.reached):
        if is_wait(flow.instructions[index]):
            yield index, "wait"
        elif is_trigger(flow.instructions[index]):
            yield index, "trigger"
    for index in {access.index for access in summary.global_accesses if access.kind not in ("read", "prefetch")}:
        yield index, "store"


def _front() -> str:
    """The key of a thread: the seed, its CTA, and its warp if rows of the CTA are whole warps.

    If whole CTAs sleep, it is said here how long, nothing or always.
    """
    lines = [
        f"ld.param.u64 %delay_w, [{DELAY}]",
        "cvt.u32.u64 %delay_t, %delay_w",
        "shr.u64 %delay_w, %delay_w, 32",
        "cvt.u32.u64 %delay_k, %delay_w",
        *_added_to_key(_COORDINATES, _FACTORS),
        *_whole_ctas(),
        *_added_to_key(_OF_WARP, _FACTORS[len(_COORDINATES) :]),
        "mov.u32 %delay_i, %tid.x",
        "shr.u32 %delay_i, %delay_i, 5",
        f"mad.lo.u32 %delay_k, %delay_i, {_FACTORS[-1]:#x}, %delay_k",
    ]
    return _text(lines)


def _added_to_key(coordinates: Sequence[str], factors: Sequence[int]) -> Iterator[str]:
    for register, factor in zip(coordinates, factors, strict=False):
        yield f"mov.u32 %delay_i, {register}"
        yield f"mad.lo.u32 %delay_k, %delay_i, {factor:#x}, %delay_k"


def _whole_ctas() -> Iterator[str]:
    """The time is 0 in CTAs that do not sleep, and the share is all places if it is CTAs that do."""
    yield from ("shr.u32 %delay_s, %delay_t, 24", "mov.u32 %delay_i, %delay_k", *_hashed())
    yield "setp.gt.u32 %delay_q, %delay_i, %delay_s"
    yield from _is_not_at_an_end()
    yield from ("shr.u32 %delay_i, %delay_t, 20", "and.b32 %delay_i, %delay_i, 3")
    yield "and.b32 %delay_t, %delay_t, 0xfffff"
    for number, predicate in ((1, "%delay_q"), (2, "%delay_p")):
        yield f"setp.eq.and.u32 {predicate}, %delay_i, {number}, {predicate}"
        yield f"@{predicate} mov.u32 %delay_t, 0"
    yield from ("setp.ne.u32 %delay_p, %delay_i, 0", "@%delay_p mov.u32 %delay_s, 255")


def _is_not_at_an_end() -> Iterator[str]:
    """``%delay_p``: whether the CTA is neither the first nor the last along some axis.

    Then the product of both distances is not 0. Where it is a multiple of 2**32, some CTA more sleeps.
    """
    yield "mov.u32 %delay_e, 0"
    for axis in "xyz":
        yield from (f"mov.u32 %delay_i, %ctaid.{axis}", f"mov.u32 %delay_x, %nctaid.{axis}")
        yield from ("sub.u32 %delay_x, %delay_x, %delay_i", "sub.u32 %delay_x, %delay_x, 1")
        yield from ("mul.lo.u32 %delay_x, %delay_x, %delay_i", "or.b32 %delay_e, %delay_e, %delay_x")
    yield "setp.ne.u32 %delay_p, %delay_e, 0"


def _sleep(place: int) -> str:
    """Sleep if the key, mixed with the place, is one of the share."""
    lines = [
        f"add.u32 %delay_i, %delay_k, {(place + 1) * 0x9E3779B9 & 0xFFFFFFFF:#x}",
        *_hashed(),
        "setp.le.u32 %delay_p, %delay_i, %delay_s",
        "@%delay_p nanosleep.u32 %delay_t",
    ]
    return _text(lines)


def _hashed() -> list[str]:
    """8 bits of a hash of a key (MurmurHash3's finalizer)."""
    return [*_mixed(16, 0x85EBCA6B), *_mixed(13, 0xC2B2AE35), "shr.u32 %delay_i, %delay_i, 24"]


def _mixed(distance: int, factor: int) -> list[str]:
    return [
        f"shr.u32 %delay_x, %delay_i, {distance}",
        "xor.b32 %delay_i, %delay_i, %delay_x",
        f"mul.lo.u32 %delay_i, %delay_i, {factor:#x}",
    ]


def _text(lines: list[str]) -> str:
    return "".join(f"\n\t{line};" for line in lines)
