"""A cache of the code of changed kernels, in the user's cache folder; making it takes parsing and disassembly.

Refusals are cached, too, except those by the assembler, which may succeed the next time.
"""

from __future__ import annotations

import json

from forerun.captured.graph import AssembledText, CapturedFunction, CapturedNode
from forerun.ir.kernel import Kernel
from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.cuda.capture.assembled import NOT_ASSEMBLED, MadeCode, make_code
from forerun.runtime.cuda.capture.verified import program_identity
from forerun.runtime.source_version import source_version
from forerun.runtime.toolchain.cache import cache_at, key_of
from forerun.runtime.toolchain.locate import require_disassembler

__all__ = ["known_code"]

_SOURCES = "ir", "ptx", "runtime", "support"
_END = b"\0"
"""Between the description of the code, which is JSON, and the code."""


def known_code(
    text: AssembledText,
    assembler: tuple[str, str],
    kernel: Kernel,
    function: CapturedFunction,
    image: bytes,
    node: CapturedNode,
    multiprocessors: int,
    *,
    prefetches: bool = False,
) -> MadeCode | str:
    """The result of :func:`~forerun.runtime.cuda.capture.assembled.make_code`, from the cache if possible.

    Returns:
        The code, or the reason why there is none.

    Raises:
        ToolchainMissing: If nvdisasm is missing.
    """
    cache = cache_at(cache_folder() / "toolchain")
    path, architecture = assembler
    tools = program_identity(path), architecture, str(require_disassembler().version), source_version(*_SOURCES)
    body = kernel.parameters, kernel.roles  # its name is only unique in its graph
    own = function.name, function.image, function.parameters, sorted(function.attributes.items())
    launch = node.grid, node.block, node.shared_bytes, multiprocessors, prefetches
    key = key_of("made", *tools, text.text, *text.options, *map(repr, (body, own, launch)))
    stored = cache.get(key)
    if stored is not None:
        return _read(stored)
    found = make_code(text, assembler, kernel, function, image, node, multiprocessors, prefetches=prefetches)
    reasons = (found,) if isinstance(found, str) else found.refused
    if not any(reason.startswith(NOT_ASSEMBLED) for reason in reasons):
        cache.put(key, _written(found))
    return found


def _written(found: MadeCode | str) -> bytes:
    if isinstance(found, str):
        return json.dumps({"problem": found}).encode() + _END
    about = {"early_loads": found.early_loads, "refused": found.refused, "text": found.text}
    about["prefetches"] = found.prefetches
    return json.dumps(about).encode() + _END + found.code


def _read(stored: bytes) -> MadeCode | str:
    head, _, code = stored.partition(_END)
    about = json.loads(head)
    if "problem" in about:
        return str(about["problem"])
    return MadeCode(code, about["early_loads"], tuple(about["refused"]), about["text"], about["prefetches"])
