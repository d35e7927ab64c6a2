"""How ``fuse-kernels`` works: patterns are found (:mod:`matching`), judged (:mod:`legality`), replaced (:mod:`splice`)."""

from __future__ import annotations

__all__: list[str] = []
