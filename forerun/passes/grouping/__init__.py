"""The machinery of ``fuse-persistent``: which launches are one group, what is in the way, and the edit."""

from __future__ import annotations

__all__: list[str] = []
