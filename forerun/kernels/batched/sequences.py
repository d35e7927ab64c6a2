"""Several sequences in a step, each with as many tokens, one after the other from a position of its own on.

A kernel has a scalar for each of these positions, since regions of the caches depend on them: what a step appends, and
what earlier ones have, is known apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from forerun.kernels.batched.stream import MOST_VECTORS
from forerun.support.diagnostics import InvalidInput

__all__ = ["Sequences"]


@dataclass(frozen=True, slots=True)
class Sequences:
    """How many sequences a step has, and how many tokens of each.

    Raises:
        InvalidInput: If there are none, or more than 8 tokens in all.

    Example:
        >>> Sequences(2, 3)
        Sequences(count=2, tokens=3)
        >>> Sequences(2, 3).appended("k_cache")
        'k_cache[0:1, pos0:pos0 + 3], k_cache[1:2, pos1:pos1 + 3]'
    """

    count: int
    tokens: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or self.tokens < 1 or self.vectors > MOST_VECTORS:
            message = f"{self.count} sequences of {self.tokens} tokens in a step are out of range"
            raise InvalidInput(message, hint=f"1 or more, and at most {MOST_VECTORS} tokens in all")

    @property
    def vectors(self) -> int:
        """Tokens of all sequences."""
        return self.count * self.tokens

    @property
    def positions(self) -> tuple[str, ...]:
        """The scalars: the position of the first token of each sequence."""
        return tuple(f"pos{number}" for number in range(self.count))

    @property
    def scalars(self) -> str:
        """Their declarations."""
        return ", ".join(f"{name}: scalar i32" for name in self.positions)

    def past(self, cache: str) -> str:
        """The rows of a cache that earlier steps have appended, a region for each sequence."""
        return self._regions(cache, "0:{}")

    def present(self, cache: str) -> str:
        """Those up to the last token."""
        return self._regions(cache, f"0:{{}} + {self.tokens}")

    def appended(self, cache: str) -> str:
        """Those of the tokens of this step."""
        return self._regions(cache, f"{{0}}:{{0}} + {self.tokens}")

    def _regions(self, cache: str, rows: str) -> str:
        regions = (f"{cache}[{i}:{i + 1}, {rows.format(name)}]" for i, name in enumerate(self.positions))
        return ", ".join(regions)
