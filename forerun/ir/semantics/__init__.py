"""What a program means: accesses, hazards, the order of events, races."""

from forerun.ir.semantics.access import NodeAccess, accesses, always_waits, late_steps
from forerun.ir.semantics.byteset import ByteSet, bytes_of
from forerun.ir.semantics.explanation import Explanation, explain
from forerun.ir.semantics.hazards import Conflict, conflicts
from forerun.ir.semantics.order import LICENCES, EventOrder, event_order, order_under
from forerun.ir.semantics.races import Race, Undrained, Verdict, check, is_ordered
from forerun.ir.semantics.repair import Repair, drain_repairs, repairs
from forerun.ir.semantics.witness import Witness, drain_witness, witness

__all__ = [
    "LICENCES",
    "ByteSet",
    "Conflict",
    "EventOrder",
    "Explanation",
    "NodeAccess",
    "Race",
    "Repair",
    "Undrained",
    "Verdict",
    "Witness",
    "accesses",
    "always_waits",
    "bytes_of",
    "check",
    "conflicts",
    "drain_repairs",
    "drain_witness",
    "event_order",
    "explain",
    "is_ordered",
    "late_steps",
    "order_under",
    "repairs",
    "witness",
]
