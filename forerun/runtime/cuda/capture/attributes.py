"""Attributes of kernel nodes and functions, by the names that captured graphs use.

Sources: CUDA Driver API, ``CUlaunchAttributeID`` and ``CUfunction_attribute``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forerun.runtime.cuda.driver.driver import Driver

__all__ = [
    "INSTANTIATION_FLAGS",
    "copy_function_attributes",
    "function_attributes",
    "launch_attributes",
    "set_launch_attributes",
    "unknown_attributes",
]

INSTANTIATION_FLAGS = 1 | 8
"""As torch instantiates: ``AUTO_FREE_ON_LAUNCH`` and ``USE_NODE_PRIORITY``."""


def _cluster(x: int, y: int, z: int) -> Mapping[str, int]:
    """None is set if the dimensions are 0; a cluster of one CTA is none."""
    return {"cluster_x": x, "cluster_y": y, "cluster_z": z} if x * y * z > 1 else {}


_LAUNCH: tuple[tuple[str, str, Callable[[Any], Mapping[str, int]]], ...] = (
    ("COOPERATIVE", "cooperative launch", lambda value: {"cooperative": int(value.cooperative)}),
    (
        "CLUSTER_DIMENSION",
        "cluster dimensions",
        lambda value: _cluster(int(value.clusterDim.x), int(value.clusterDim.y), int(value.clusterDim.z)),
    ),
    ("PRIORITY", "priority", lambda value: {"priority": int(value.priority)}),
    ("MEM_SYNC_DOMAIN", "memory synchronization domain", lambda value: {"sync_domain": int(value.memSyncDomain)}),
    (
        "PREFERRED_SHARED_MEMORY_CARVEOUT",
        "shared-memory carveout",
        lambda value: {"carveout": int(value.sharedMemCarveout)},
    ),
    (
        "DEVICE_UPDATABLE_KERNEL_NODE",
        "device updates",
        lambda value: {"device_updatable": int(value.deviceUpdatableKernelNode.deviceUpdatable)},
    ),
    (
        "ACCESS_POLICY_WINDOW",
        "access policy window",
        lambda value: {"access_policy_bytes": int(value.accessPolicyWindow.num_bytes)},
    ),
)

_FUNCTION = {
    "max_threads": "MAX_THREADS_PER_BLOCK",
    "shared_bytes": "SHARED_SIZE_BYTES",
    "constant_bytes": "CONST_SIZE_BYTES",
    "local_bytes": "LOCAL_SIZE_BYTES",
    "registers": "NUM_REGS",
    "max_dynamic_shared_bytes": "MAX_DYNAMIC_SHARED_SIZE_BYTES",
    "shared_carveout": "PREFERRED_SHARED_MEMORY_CARVEOUT",
    "cluster_must_be_set": "CLUSTER_SIZE_MUST_BE_SET",
    "non_portable_cluster": "NON_PORTABLE_CLUSTER_SIZE_ALLOWED",
}
_PREFIX = "CU_LAUNCH_ATTRIBUTE_"
_SETTABLE = ("max_dynamic_shared_bytes", "shared_carveout", "non_portable_cluster")


def launch_attributes(driver: Driver, node: Any) -> tuple[dict[str, int], tuple[str, ...]]:
    """The attributes of a kernel node that are not as they are by default, and why some cannot be read."""
    found: dict[str, int] = {}
    unreadable = []
    kinds = driver.api.CUlaunchAttributeID
    get = driver.function("cuGraphKernelNodeGetAttribute")
    for name, words, read in _LAUNCH:
        error, *value = get(node, getattr(kinds, _PREFIX + name))
        if error:
            unreadable.append(f"its {words} cannot be read ({getattr(error, 'name', error)})")
        else:
            found |= {key: number for key, number in read(value[0]).items() if number}
    return found, tuple(unreadable)


_MADE_AGAIN = {
    "cooperative": ("COOPERATIVE", "cooperative"),
    "priority": ("PRIORITY", "priority"),
    "carveout": ("PREFERRED_SHARED_MEMORY_CARVEOUT", "sharedMemCarveout"),
}
_CLUSTER = ("cluster_x", "cluster_y", "cluster_z")


def unknown_attributes(attributes: Mapping[str, int]) -> list[str]:
    """Those of a node's attributes that :func:`set_launch_attributes` cannot set."""
    return sorted(attributes.keys() - {*_MADE_AGAIN, *_CLUSTER, "sync_domain"})


def set_launch_attributes(driver: Driver, node: Any, attributes: Mapping[str, int]) -> None:
    """Give a kernel node the attributes that :func:`launch_attributes` read.

    Raises:
        CudaError: If the driver refuses one.
    """
    api = driver.api

    def put(name: str, value: Any) -> None:
        driver.call("cuGraphKernelNodeSetAttribute", node, getattr(api.CUkernelNodeAttrID, _PREFIX + name), value)

    for key, (name, member) in _MADE_AGAIN.items():
        if key in attributes:
            value = api.CUkernelNodeAttrValue()
            setattr(value, member, attributes[key])
            put(name, value)
    if "cluster_x" in attributes:
        value = api.CUkernelNodeAttrValue()
        value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = (attributes.get(key, 1) for key in _CLUSTER)
        put("CLUSTER_DIMENSION", value)
    if "sync_domain" in attributes:
        value = api.CUkernelNodeAttrValue()
        value.memSyncDomain = api.CUlaunchMemSyncDomain(attributes["sync_domain"])
        put("MEM_SYNC_DOMAIN", value)


def function_attributes(driver: Driver, function: Any) -> dict[str, int]:
    """The attributes of a function."""
    kinds = driver.api.CUfunction_attribute
    get = driver.function("cuFuncGetAttribute")
    found = {}
    for name, key in _FUNCTION.items():
        error, *value = get(getattr(kinds, f"CU_FUNC_ATTRIBUTE_{key}"), function)
        if not error:
            found[name] = int(value[0])
    return found


def copy_function_attributes(driver: Driver, attributes: Mapping[str, int], function: Any) -> None:
    """Give a function the attributes that programs can set.

    Raises:
        CudaError: If the driver refuses one.
    """
    kinds = driver.api.CUfunction_attribute
    now = function_attributes(driver, function)
    for name in _SETTABLE:
        if name in attributes and attributes[name] != now.get(name):
            kind = getattr(kinds, f"CU_FUNC_ATTRIBUTE_{_FUNCTION[name]}")
            driver.call("cuFuncSetAttribute", function, kind, attributes[name])
