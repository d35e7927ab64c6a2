"""The files of a dump folder that the page is made of, besides the graphs."""

from __future__ import annotations

__all__ = ["BENCH_FILE", "ITEMS_FILE", "SUMMARY_FILE", "TIMELINE_FILE"]

SUMMARY_FILE = "summary.json"
"""What makes a folder a dump."""

BENCH_FILE = "bench.json"
"""What ``forerun bench`` measured; the page shows it if it is there."""

TIMELINE_FILE = "timeline.json"
"""A step as ``forerun bench`` saw it; the page shows it if it is there."""

ITEMS_FILE = "items.json"
"""When the items of a persistent kernel ran (``ItemTimes.to_json``); the page shows it if it is there."""
