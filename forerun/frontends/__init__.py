"""Where programs come from: model files to graphs, and what is needed to run them (tokenizer, download)."""

from __future__ import annotations

__all__: list[str] = []
