"""What the driver tells of a node that a captured graph keeps in part only: to see every change of a graph.

A captured node says which bytes a copy touches, for instance, but not how it gets from row to row. Sources: CUDA Driver
API, ``CUDA_MEMCPY3D``, ``CUDA_MEMSET_NODE_PARAMS``, ``CUDA_HOST_NODE_PARAMS``, ``CUlaunchAttributeValue``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["node_details"]

_ARRAY = 3
_END = ("MemoryType", "Host", "Device", "Pitch", "Height", "XInBytes", "Y", "Z")
_COPY = (*(side + word for side in ("src", "dst") for word in _END), "WidthInBytes", "Height", "Depth")
_FILL = ("dst", "pitch", "value", "elementSize", "width", "height")

_MORE_ATTRIBUTES: tuple[tuple[str, Callable[[Any], object]], ...] = (
    ("CLUSTER_SCHEDULING_POLICY_PREFERENCE", lambda value: int(value.clusterSchedulingPolicyPreference)),
    ("MEM_SYNC_DOMAIN_MAP", lambda value: (int(value.memSyncDomainMap.default_), int(value.memSyncDomainMap.remote))),
    (
        "PREFERRED_CLUSTER_DIMENSION",
        lambda value: tuple(int(getattr(value.preferredClusterDim, axis)) for axis in "xyz"),
    ),
    (
        "ACCESS_POLICY_WINDOW",
        lambda value: (
            int(value.accessPolicyWindow.num_bytes),
            int(value.accessPolicyWindow.base_ptr or 0),
            float(value.accessPolicyWindow.hitRatio),
            int(value.accessPolicyWindow.hitProp),
            int(value.accessPolicyWindow.missProp),
        ),
    ),
)


def node_details(driver: Driver, node: Any, kind: str) -> object:
    """All of a node but what a :class:`~forerun.captured.CapturedNode` tells exactly; equal only if that is the same.

    Args:
        driver: The driver.
        node: The ``CUgraphNode``; not that of a child graph.
        kind: What kind of node it is, as captured graphs name it.
    """
    match kind:
        case "kernel":
            return _more_attributes(driver, node)
        case "memcpy":
            found = driver.call("cuGraphMemcpyNodeGetParams", node)
            if _ARRAY in (int(found.srcMemoryType), int(found.dstMemoryType)):
                return object()
            return tuple(int(getattr(found, name) or 0) for name in _COPY)
        case "memset":
            found = driver.call("cuGraphMemsetNodeGetParams", node)
            return tuple(int(getattr(found, name)) for name in _FILL)
        case "host":
            found = driver.call("cuGraphHostNodeGetParams", node)
            return int(found.fn), int(found.userData or 0)
        case "event_record":
            return int(driver.call("cuGraphEventRecordNodeGetEvent", node))
        case "wait_event":
            return int(driver.call("cuGraphEventWaitNodeGetEvent", node))
        case "empty":
            return None
    return object()


def _more_attributes(driver: Driver, node: Any) -> object:
    """Launch attributes that captured graphs do not keep; ``None`` for those that this driver does not know."""
    kinds = driver.api.CUlaunchAttributeID
    get = driver.function("cuGraphKernelNodeGetAttribute")
    attributes: list[object] = []
    for name, read in _MORE_ATTRIBUTES:
        identifier = getattr(kinds, f"CU_LAUNCH_ATTRIBUTE_{name}", None)
        error, *value = (1,) if identifier is None else get(node, identifier)
        attributes.append(None if error else read(value[0]))
    return tuple(attributes)
