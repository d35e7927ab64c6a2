"""Several sequences in a step, each with as many tokens, one after the other from a position of its own on.

A kernel has a scalar for each of these positions, and buffers for each sequence's keys and values: regions of these
depend on the position, so that what a step appends, and what earlier ones have, is known apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from forerun.ir.types import DType
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
        >>> Sequences(1, 3).appended
        'k_cache0[pos0:pos0 + 3], v_cache0[pos0:pos0 + 3]'
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

    @property
    def caches(self) -> tuple[str, ...]:
        """The buffers: the keys of each sequence, then the values of each."""
        return tuple(f"{cache}{number}" for cache in ("k_cache", "v_cache") for number in range(self.count))

    def declared(self, dtype: DType) -> str:
        """The declarations of the caches."""
        return ", ".join(f"{name}: {dtype}[T, KV, HD] align 16" for name in self.caches)

    @property
    def past(self) -> str:
        """The rows of the caches that earlier steps have appended."""
        return self._regions("0:{}")

    @property
    def present(self) -> str:
        """Those up to the last token."""
        return self._regions(f"0:{{}} + {self.tokens}")

    @property
    def appended(self) -> str:
        """Those of the tokens of this step."""
        return self._regions(f"{{0}}:{{0}} + {self.tokens}")

    def _regions(self, rows: str) -> str:
        regions = zip(self.caches, 2 * self.positions, strict=True)
        return ", ".join(f"{cache}[{rows.format(position)}]" for cache, position in regions)
