"""Times and counts in words, for the page and for terminals."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["counted", "duration", "plural"]


def plural(count: int, name: str, names: str = "") -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "pass", "passes"), plural(1200, "node")
        ('1 pass', '1,200 nodes')
    """
    return f"{count:,} {name if count == 1 else names or name + 's'}"


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> duration(0.0123), duration(2.5), duration(0.00002)
        ('12.3 ms', '2.50 s', '20.0 us')
    """
    if 0 < seconds < 1e-4:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def counted(counts: Mapping[str, int], *, zeros: bool = False, nothing: str = "none") -> str:
    """Counts by name, in words.

    Example:
        >>> counted({"full": 8, "programmatic": 1071, "launch_order": 0})
        '8 full, 1,071 programmatic'
        >>> counted({"waits_inserted": 1, "near_misses": 1, "dependencies_kept": 1})
        '1 wait inserted, 1 near miss, 1 dependency kept'
    """
    found = [
        f"{count:,} {_agreeing(name.replace('_', ' '), count)}" for name, count in counts.items() if count or zeros
    ]
    return ", ".join(found) or nothing


_PLURAL = re.compile(r"(?:(ies)|(?<=ch)es|(?<=ss)es|(?<=[^s])s)\b")


def _agreeing(words: str, count: int) -> str:
    """Words whose noun is in the plural, for a count: one wait, two waits."""
    return _PLURAL.sub(lambda ending: "y" if ending[1] else "", words, count=1) if count == 1 else words
