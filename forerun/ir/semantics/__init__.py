"""What a program means: accesses, hazards, the order of events, races."""

from forerun.ir.semantics.access import NodeAccess, accesses, always_waits
from forerun.ir.semantics.body import late_steps
from forerun.ir.semantics.byteset import ByteSet, bytes_of
from forerun.ir.semantics.hazards import Conflict, conflicts
from forerun.ir.semantics.order import ASSUMPTIONS, EventOrder, event_order, order_under
from forerun.ir.semantics.races import Race, Undrained, Verdict, check, is_ordered

__all__ = [
    "ASSUMPTIONS",
    "ByteSet",
    "Conflict",
    "EventOrder",
    "NodeAccess",
    "Race",
    "Undrained",
    "Verdict",
    "accesses",
    "always_waits",
    "bytes_of",
    "check",
    "conflicts",
    "event_order",
    "is_ordered",
    "late_steps",
    "order_under",
]
