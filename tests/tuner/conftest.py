"""Tunings of tests stay out of the user's cache."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_tunings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which tunings are found and written by themselves."""
    folder = tmp_path / "known"
    for module in ("forerun.compiler", "forerun.tuner.tune"):
        monkeypatch.setattr(import_module(module), "tunings_folder", lambda: folder)
    return folder
