"""How ``fuse-kernels`` works.

Patterns are found along the def_use of data (:mod:`def_use`, :mod:`matching`), judged (:mod:`legality`), and replaced
(:mod:`splice`).
"""
