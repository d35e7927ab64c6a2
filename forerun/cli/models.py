"""Models by name: where their files are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forerun.cli.console import error_console

__all__ = ["BUILT_IN_MODEL", "SHAPED_MODEL", "model_path"]

BUILT_IN_MODEL = "smollm2"
SHAPED_MODEL = "llama"
"""The name for models that are only shapes."""


def model_path(model: str, *, shown: bool) -> Path:
    """The model's file, fetched if it is the built-in one and not there yet."""
    from forerun.frontends.fetch import fetch_smollm2
    from forerun.support.diagnostics import InvalidInput, did_you_mean

    if model == BUILT_IN_MODEL:
        with _download_bar(shown=shown) as progress:
            return fetch_smollm2(progress)
    path = Path(model)
    if path.suffix != ".gguf" and not path.exists():
        hint = f"{did_you_mean(model, [BUILT_IN_MODEL, SHAPED_MODEL])}; or name a .gguf file"
        raise InvalidInput(f"no model '{model}'", hint=hint)
    return path


@contextmanager
def _download_bar(*, shown: bool) -> Iterator[Any]:
    """A callback for :func:`fetch_smollm2` that draws a bar, from the first time that it is called."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("fetching SmolLM2"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bar = Progress(*columns, console=error_console(), disable=not shown)
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
