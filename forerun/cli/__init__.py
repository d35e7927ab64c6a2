"""The command line: ``forerun run``, ``opt``, ``check``, ``fuzz``, ``report`` and ``info``."""

from __future__ import annotations

from forerun.cli.app import app, main

__all__ = ["app", "main"]
