"""A driver whose n-th call fails, instead of doing what it should."""

from __future__ import annotations

from typing import Any

from cuda.bindings import driver as real

_NOT_COUNTED = ("cuGetErrorString",)


class Faults:
    """Wraps a driver, the real one or a fake.

    Attributes:
        at: The number of the call that fails, counted from 1; 0 for none.
        names: The functions that were called.
    """

    def __init__(self, api: Any, error: Any = real.CUresult.CUDA_ERROR_OPERATING_SYSTEM) -> None:
        self._api = api
        self._error = error
        self.at = 0
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._api, name)
        if not name.startswith("cu") or name in _NOT_COUNTED:
            return found

        def call(*arguments: Any) -> Any:
            self.names.append(name)
            if len(self.names) == self.at:
                return (self._error, None) if name == "cuGraphAddNode" else (self._error,)
            return found(*arguments)

        return call

    def arm(self, at: int) -> None:
        """Let that call fail, counted from now."""
        self.at = at
        self.names.clear()
