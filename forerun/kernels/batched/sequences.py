"""The sequences of a batched step, all with the same number of consecutive tokens, each at its own position.

A kernel has a scalar for the position of each sequence, and buffers for its keys and values. Regions of these buffers
depend on the position, so the rows that a step appends are known to be disjoint from those of earlier steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from forerun.ir.types import DType
from forerun.kernels.batched.stream import MOST_VECTORS
from forerun.support.diagnostics import InvalidInput

__all__ = ["Sequences"]


@dataclass(frozen=True, slots=True)
class Sequences:
    """The number of sequences of a step, and the number of tokens of each.

    Attributes:
        count: Number of sequences.
        tokens: Tokens of each sequence.

    Raises:
        InvalidInput: If a number is not an integer or less than 1, or there are more than 8 tokens in all.

    Example:
        >>> Sequences(2, 3)
        Sequences(count=2, tokens=3)
        >>> Sequences(1, 3).appended
        'k_cache0[pos0:pos0 + 3], v_cache0[pos0:pos0 + 3]'
    """

    count: int
    tokens: int = 1

    def __post_init__(self) -> None:
        numbers = self.count, self.tokens
        if any(type(one) is not int for one in numbers) or min(numbers) < 1 or self.vectors > MOST_VECTORS:
            message = f"{self.count!r} sequences of {self.tokens!r} tokens in a step are out of range"
            raise InvalidInput(message, hint=f"integers, at least 1 of each, and at most {MOST_VECTORS} tokens in all")

    @property
    def vectors(self) -> int:
        """The number of tokens of all sequences."""
        return self.count * self.tokens

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of the scalars with the position of each sequence's first token."""
        return tuple(f"pos{number}" for number in range(self.count))

    @property
    def scalars(self) -> str:
        """The declarations of the positions."""
        return ", ".join(f"{name}: scalar i32" for name in self.positions)

    @property
    def caches(self) -> tuple[str, ...]:
        """The names of the KV caches: the keys of each sequence, then the values of each."""
        return tuple(f"{cache}{number}" for cache in ("k_cache", "v_cache") for number in range(self.count))

    def declared(self, dtype: DType) -> str:
        """The declarations of the KV caches of a type."""
        return ", ".join(f"{name}: {dtype}[T, KV, HD] align 16" for name in self.caches)

    @property
    def past(self) -> str:
        """The rows of the caches that earlier steps appended."""
        return self._regions("0:{}")

    @property
    def present(self) -> str:
        """The rows of the caches up to the last token of this step."""
        return self._regions(f"0:{{}} + {self.tokens}")

    @property
    def appended(self) -> str:
        """The rows of the caches that this step appends."""
        return self._regions(f"{{0}}:{{0}} + {self.tokens}")

    def _regions(self, rows: str) -> str:
        regions = zip(self.caches, 2 * self.positions, strict=True)
        return ", ".join(f"{cache}[{rows.format(position)}]" for cache, position in regions)
