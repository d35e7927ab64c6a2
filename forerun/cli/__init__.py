"""The command line: ``forerun run``, ``bench``, ``opt``, ``check``, ``fuzz``, ``litmus``, ``report`` and ``info``."""

from __future__ import annotations

from forerun.cli.app import app, main

__all__ = ["app", "main"]
