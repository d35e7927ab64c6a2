"""What a program means: accesses, hazards, the order of events, races."""

from forerun.ir.semantics.access import NodeAccess, accesses, always_waits, late_steps
from forerun.ir.semantics.byteset import ByteSet, bytes_of
from forerun.ir.semantics.hazards import Conflict, conflicts
from forerun.ir.semantics.order import EventOrder, event_order
from forerun.ir.semantics.races import Verdict, check, is_ordered

__all__ = [
    "ByteSet",
    "Conflict",
    "EventOrder",
    "NodeAccess",
    "Verdict",
    "accesses",
    "always_waits",
    "bytes_of",
    "check",
    "conflicts",
    "event_order",
    "is_ordered",
    "late_steps",
]
