"""How ``fuse-kernels`` works.

Patterns are found along the flow of data (:mod:`flow`, :mod:`matching`), judged (:mod:`legality`), and replaced
(:mod:`splice`).
"""

from __future__ import annotations

__all__: list[str] = []
