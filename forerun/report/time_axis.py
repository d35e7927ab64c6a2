"""The axis of pictures in which time goes from left to right."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.report.markup import Markup, join, tag

__all__ = ["time_axis"]

_TICK_DISTANCE = 90


def time_axis(nanoseconds: int, scale: float, bottom: int) -> Iterator[Markup]:
    """Ticks from the beginning on, with their times below.

    Args:
        nanoseconds: The length of the axis.
        scale: Pixels a nanosecond.
        bottom: Where the picture ends.
    """
    distance = _tick(_TICK_DISTANCE / scale)
    for number in range(int(nanoseconds / distance) + 1):
        x = number * distance * scale
        line = tag("path", d=f"M{x:.1f} 0V{bottom + 4}", class_="tick")
        yield join(line, tag("text", f"{number * distance / 1e3:g} us", x=x + 3, y=bottom + 15, class_="when"))


def _tick(least: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is not less, in nanoseconds."""
    power = 1.0
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10
