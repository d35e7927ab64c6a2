"""What may be done to a program: one pass, one file.

The rooms: :mod:`base` (what a pass is), :mod:`registry` (passes by name), :mod:`pipeline` (sequences and their text),
:mod:`manager` (the loop with six hooks), :mod:`instrument` (what hangs on the hooks), :mod:`rewrite` (pattern rules),
:mod:`default` (the default pipeline); every other module is one pass.
"""

from __future__ import annotations

from forerun.passes.base import Assessment, Assessor, Pass, PassContext, option
from forerun.passes.pipeline import Pipeline
from forerun.passes.registry import available, get, register

__all__ = [
    "Assessment",
    "Assessor",
    "Pass",
    "PassContext",
    "Pipeline",
    "available",
    "get",
    "option",
    "register",
]
