"""Models by name: where their files are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forerun.cli.console import error_console

__all__ = ["BUILT_IN_MODEL", "SHAPED_MODEL", "model_path", "require_model"]

BUILT_IN_MODEL = "smollm2"
SHAPED_MODEL = "llama"
"""The name for models that are only shapes."""


def require_model(model: str) -> None:
    """Refuse what neither names a model nor can be a model's file; nothing is fetched.

    Raises:
        InvalidInput: If it is neither.
    """
    from forerun.frontends.llama_config import SHAPES
    from forerun.support.diagnostics import InvalidInput, closest

    if model == BUILT_IN_MODEL or model.endswith(".gguf") or Path(model).exists():
        return
    shape = closest(model, SHAPES)
    hint = f"name '{BUILT_IN_MODEL}' or a .gguf file; --shape NAME needs no weights: {', '.join(SHAPES)}"
    if closest(model, [BUILT_IN_MODEL]):
        hint = f"did you mean '{BUILT_IN_MODEL}'?"
    elif shape:
        hint = f"name a .gguf file, or only the shapes of a model: --shape {shape}"
    raise InvalidInput(f"no model '{model}'", hint=hint)


def model_path(model: str, *, shown: bool) -> Path:
    """The model's file, fetched if it is the built-in one and not there yet."""
    from forerun.frontends.fetch import fetch_smollm2

    if model != BUILT_IN_MODEL:
        return Path(model)
    with _download_bar(shown=shown) as progress:
        return fetch_smollm2(progress)


@contextmanager
def _download_bar(*, shown: bool) -> Iterator[Any]:
    """A callback for :func:`fetch_smollm2` that draws a bar, from the first time that it is called."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("fetching SmolLM2"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    console = error_console()
    bar = Progress(*columns, console=console, disable=not (shown and console.is_terminal))
    tasks: list[Any] = []

    def progress(done: int, total: int) -> None:
        if not tasks:
            bar.start()
            tasks.append(bar.add_task("fetch", total=total))
        bar.update(tasks[0], completed=done)

    try:
        yield progress
    finally:
        bar.stop()
