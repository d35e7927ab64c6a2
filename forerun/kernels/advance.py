"""Feeds a greedy choice back, so that a loop on the device decodes token after token.

What a step has chosen is kept in ``tokens`` and becomes the next step's token. ``running`` becomes zero when it is the
end token, when ``limit`` tokens are kept, or when no position is left; otherwise the position advances, and so it never
leaves the context.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import cuda_kernel

__all__ = ["KERNEL", "LAUNCH", "advance"]

LAUNCH = Launch((1, 1, 1), (32, 1, 1))

Element = NDArray[np.int32]

_PARAMETERS = """
    chosen: i32[1], tokens: i32[N], count: i32[1], token: i32[1], position: i32[1], running: i32[1],
    index: scalar i32, limit: scalar i32, end: scalar i32, context: scalar i32
"""


@phase(writes="tokens[index:index + 1], count, token, position, running")
def advance(
    chosen: Element, position: Element, index: int, limit: int, end: int, context: int
) -> tuple[Element, Element, Element, Element, Element]:
    """The kept token, then the new count, token, position and whether there is another step."""
    running = chosen[0] != end and index + 1 < limit and position[0] + 1 < context
    following = np.array([running], np.int32)
    return chosen, np.array([index + 1], np.int32), chosen, position + following, following


KERNEL = cuda_kernel("advance", _PARAMETERS, advance)
"""``index`` is how many tokens are kept: bind it to ``count``. ``end`` may be -1, for none."""
