"""Feeds a greedy choice back, so that a loop on the device decodes token after token.

What a step has chosen is kept in ``tokens`` and becomes the next step's token. ``running`` becomes zero when it is the
end token, when ``limit`` tokens are kept, or when no position is left; otherwise the position advances, and so it never
leaves the context.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.nodes import Launch
from forerun.ir.region import region
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "LAUNCH", "advance"]

_ADVANCE = Phase(
    "advance",
    reads=(Access("chosen"), Access("position")),
    scalars=("index", "limit", "end", "context"),
    writes=(
        Access("tokens", region(("index", affine("index") + 1))),
        Access("count"),
        Access("token"),
        Access("position"),
        Access("running"),
    ),
    reference="forerun.kernels.advance:advance",
)

KERNEL = Kernel(
    "advance",
    (
        BufferParameter("chosen", DType.I32, (1,)),
        BufferParameter("tokens", DType.I32, ("N",)),
        BufferParameter("count", DType.I32, (1,)),
        BufferParameter("token", DType.I32, (1,)),
        BufferParameter("position", DType.I32, (1,)),
        BufferParameter("running", DType.I32, (1,)),
        ScalarParameter("index", DType.I32),
        ScalarParameter("limit", DType.I32),
        ScalarParameter("end", DType.I32),
        ScalarParameter("context", DType.I32),
    ),
    (Role("all", (_ADVANCE,)),),
    cuda("advance"),
    ANY_LAUNCH,
)
"""``index`` is how many tokens are kept: bind it to ``count``. ``end`` may be -1, for none."""

LAUNCH = Launch((1, 1, 1), (32, 1, 1))

Element = NDArray[np.int32]


def advance(
    chosen: Element, position: Element, index: int, limit: int, end: int, context: int
) -> tuple[Element, Element, Element, Element, Element]:
    """The kept token, then the new count, token, position and whether there is another step."""
    running = chosen[0] != end and index + 1 < limit and position[0] + 1 < context
    following = np.array([running], np.int32)
    return chosen, np.array([index + 1], np.int32), chosen, position + following, following
