"""Plans: executable graphs that are kept, and become other graphs in the cheapest way that is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.support.lazy import lazy_exports

if TYPE_CHECKING:
    from forerun.runtime.plans.cache import PlanCache as PlanCache
    from forerun.runtime.plans.comparison import compare as compare
    from forerun.runtime.plans.difference import Difference as Difference
    from forerun.runtime.plans.difference import NodeChange as NodeChange
    from forerun.runtime.plans.kept import CacheStatistics as CacheStatistics
    from forerun.runtime.plans.plan import Plan as Plan
    from forerun.runtime.plans.policy import Choice as Choice
    from forerun.runtime.plans.policy import Costs as Costs
    from forerun.runtime.plans.policy import Offer as Offer
    from forerun.runtime.plans.policy import Policy as Policy
    from forerun.runtime.plans.updatable import UpdatableProgram as UpdatableProgram
    from forerun.runtime.plans.updatable import Update as Update
    from forerun.runtime.plans.updatable import Way as Way

_NAMES = {
    "cache": ["PlanCache"],
    "comparison": ["compare"],
    "difference": ["Difference", "NodeChange"],
    "kept": ["CacheStatistics"],
    "plan": ["Plan"],
    "policy": ["Choice", "Costs", "Offer", "Policy"],
    "updatable": ["UpdatableProgram", "Update", "Way"],
}
_EXPORTS = {name: f"forerun.runtime.plans.{module}" for module, names in _NAMES.items() for name in names}

__all__ = sorted(_EXPORTS)

__getattr__ = lazy_exports(__name__, _EXPORTS)
