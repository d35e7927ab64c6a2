"""Draws docs/decode-layer.svg: the decode step of a one-layer model before and after the pipeline `exact`.

A test compares it with the file; ``pytest tests/project --bless`` writes it again.
"""

from __future__ import annotations

from pathlib import Path

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.passes.infra.manager import PassManager
from forerun.report.standalone import standalone_svg

__all__ = ["PICTURE", "draw"]

PICTURE = Path(__file__).with_name("decode-layer.svg")


def draw() -> str:
    """The picture, from graphs that were really compiled."""
    config = LlamaConfig("small", 1, 576, 9, 3, 64, 1536, 49152, 8192)
    before = decode_graph(config)
    after = PassManager("exact").run(before).graph
    return standalone_svg([("before", before), ("after", after)], prefix="blk.0.")
