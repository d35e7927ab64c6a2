"""What may be done to a program: one pass, one file.

:mod:`infra` has what passes are made of and what runs them, :mod:`instrument` what accompanies a run, :mod:`fusion` the
machinery of ``fuse-kernels``; every other module is one pass.
"""

from __future__ import annotations

from forerun.passes.infra.base import Assessment, Assessor, Pass, PassContext, option
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.registry import available, get, register

__all__ = ["Assessment", "Assessor", "Pass", "PassContext", "Pipeline", "available", "get", "option", "register"]
