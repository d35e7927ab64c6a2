"""Numbers that are not finite: weights that a type cannot hold, and logits from which no token may be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forerun.ir.types import BufferRole
from forerun.support.diagnostics import ForerunError, InvalidInput

if TYPE_CHECKING:
    from forerun.ir.graph import Graph

__all__ = ["Readable", "fitted", "require_finite_logits"]


class Readable(Protocol):
    """What ran: a graph, and what its buffers hold."""

    @property
    def graph(self) -> Graph:
        """The graph."""
        ...

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a buffer holds."""
        ...


_LOOP_LOGITS = "output.out"
"""The buffer that holds the logits of the last step in a generation graph, where they are no output."""


def fitted(values: NDArray[np.float32], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """Finite weights as another type, which must hold each of them; ``where`` says for the message whose they are.

    Raises:
        InvalidInput: If one of them is too large for the type.
    """
    with np.errstate(all="ignore"):
        converted = values.astype(dtype, copy=False)
    wrong = ~np.isfinite(converted)
    if not wrong.any():
        return converted
    place = np.unravel_index(int(wrong.argmax()), wrong.shape)
    # bf16 has the range of f32 but for the last half step, so it almost always does.
    others = "bf16 or f32" if dtype == np.float16 and np.abs(values).max() < 3.3e38 else "f32"
    at = ", ".join(str(int(index)) for index in place)
    raise InvalidInput(
        f"{where} holds {float(values[place])} at [{at}], which {dtype.name} cannot hold ({wrong.sum()} such values)",
        hint=f"ask for {others}, with --dtype or weights_as()",
    )


def require_finite_logits(executable: Readable, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, Any]) -> None:
    """Check the logits of a replay, before a token that was chosen from them is used.

    Raises:
        InvalidInput: If a logit is not finite; it names the first node for which that is so in a second, serial run on
            the reference target with the same inputs.
    """
    logits = _logits(executable, outputs)
    if logits is None or np.isfinite(logits).all():
        return
    count = int((~np.isfinite(logits)).sum())
    position = int(np.asarray(inputs["position"]).reshape(-1)[0])
    raise InvalidInput(
        f"{count} of {logits.size} logits at position {position} are not finite, so no token was chosen: "
        f"{_first(executable, inputs)}",
        hint="a type with more range may help (--dtype f32), or the model's weights are damaged",
    )


def _logits(executable: Readable, outputs: Mapping[str, Any]) -> NDArray[Any] | None:
    if "logits" in outputs:
        logits: NDArray[Any] = np.asarray(outputs["logits"])
        return logits
    return executable.read(_LOOP_LOGITS) if _LOOP_LOGITS in executable.graph.buffers else None


def _first(executable: Readable, inputs: Mapping[str, NDArray[Any]]) -> str:
    """What the second run found, in words."""
    from forerun.runtime.reference.finite import first_not_finite

    graph, read = executable.graph, executable.read
    weights = {name: read(name) for name in (b.name for b in graph.buffers.values() if b.needs_value)}
    # A step writes its own rows before it reads them, so the state after the run serves as the one before it.
    state = {name: read(name) for name in _named(graph, BufferRole.STATE)}
    try:
        found = first_not_finite(graph, weights, state, inputs)
    except ForerunError as error:
        return f"which node did that cannot be found, as the reference target cannot run the graph ({error.message})"
    if found is None:
        return "on the reference target all values are finite, so the fault is the target's or its rounding"
    return f"first, {found}"


def _named(graph: Graph, role: BufferRole) -> list[str]:
    return [name for name, buffer in graph.buffers.items() if buffer.role is role]
