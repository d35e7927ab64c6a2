"""Streams of the caller: CUDA's protocol, those of torch and CuPy, and plain handles."""

from __future__ import annotations

import sys
from typing import Any

from forerun.support.diagnostics import InvalidInput

__all__ = ["current_stream", "stream_handle"]

_LARGEST = 1 << 64


def current_stream() -> int:
    """The handle of torch's current stream; the default stream where torch is not loaded."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.current_stream().cuda_stream) if torch is not None else 0


def stream_handle(stream: Any) -> int:
    """The driver's handle of a stream.

    Args:
        stream: Something with ``__cuda_stream__`` (cuda.core), a ``torch.cuda.Stream``, a CuPy stream, a ``CUstream``
            of the bindings, or the handle as an integer; 0 and 1 are the legacy default stream, 2 that of the thread.

    Raises:
        InvalidInput: If it is none of these.
    """
    if type(stream) is int:
        if 0 <= stream < _LARGEST:
            return stream
        raise InvalidInput(f"{stream} is not the handle of a stream")
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, handle = protocol() if callable(protocol) else protocol
        if version != 0:
            raise InvalidInput(f"version {version} of __cuda_stream__ is not known", hint="pass the handle, an integer")
        return int(handle)
    for attribute in ("cuda_stream", "ptr"):  # torch, CuPy
        handle = getattr(stream, attribute, None)
        if type(handle) is int:
            return handle
    if type(stream).__name__ == "CUstream":
        return int(stream)
    message = f"{type(stream).__name__} is not a stream"
    raise InvalidInput(message, hint="pass a torch, CuPy or cuda.core stream, or a handle as an integer")
