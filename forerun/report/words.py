"""Times and counts in words, for the page and for terminals."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["counted", "duration"]


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> duration(0.0123), duration(2.5)
        ('12.3 ms', '2.50 s')
    """
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def counted(counts: Mapping[str, int], *, zeros: bool = False, nothing: str = "none") -> str:
    """Counts by name, in words.

    Example:
        >>> counted({"full": 8, "programmatic": 1071, "launch_order": 0})
        '8 full, 1,071 programmatic'
    """
    found = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count or zeros]
    return ", ".join(found) or nothing
