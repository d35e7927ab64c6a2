"""Work of a program with the driver: in its own context, and refused once the program cannot go on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import NoReturn

from forerun.runtime.cuda.driver.device import Context
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.support.diagnostics import ForerunError, InvalidInput

__all__ = ["ProgramGuard"]


class ProgramGuard:
    """Says whether a program may work with the driver, and makes its context current while it does.

    Attributes:
        refusal: Why the program can do nothing any more: the first sticky error, or that it is closed. ``None`` while
            it works.
    """

    __slots__ = ("context", "refusal")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.refusal: ForerunError | None = None

    def working(self) -> AbstractContextManager[None]:
        """A block with the context current, whose sticky errors are remembered.

        Raises:
            InvalidInput: If the program is closed.
            CudaError: If there was a sticky error before, or the context cannot be made current.
        """
        return _Working(self)

    def note(self, error: CudaError) -> None:
        """Remember an error if it is sticky, and the first one."""
        if error.is_sticky and self.refusal is None:
            self.refusal = error

    def refuse(self, reason: ForerunError) -> NoReturn:
        """Raise the refusal for a call that came after it.

        Raises:
            CudaError: If the reason is a sticky error.
            InvalidInput: If the program is closed.
        """
        if isinstance(reason, CudaError):
            raise reason.about(detail="this happened before; the program can do nothing since then") from reason
        raise InvalidInput(reason.message, hint=reason.hint)


class _Working(AbstractContextManager[None]):
    __slots__ = ("_before", "_guard")

    def __init__(self, guard: ProgramGuard) -> None:
        self._guard = guard

    def __enter__(self) -> None:
        guard = self._guard
        if guard.refusal is not None:
            guard.refuse(guard.refusal)
        try:
            self._before = guard.context.enter()
        except CudaError as error:
            guard.note(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            try:
                self._guard.context.leave(self._before)
            except CudaError as failure:
                self._guard.note(failure)
                raise
        if error is not None and isinstance(error, CudaError):
            self._guard.note(error)
