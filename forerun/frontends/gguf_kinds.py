"""GGUF files that hold something else than a whole language model, told apart by their metadata and their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.frontends.gguf import GgufFile

__all__ = ["part_hint", "require_whole_model"]

_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)|\.gguf[-.](?:split|part)[-_.]?\w+$", re.IGNORECASE)
_BASE = "name the file of a whole language model"
_TYPES = {
    "adapter": ("an adapter (LoRA) for a model, not a model", "merge it into its base model with llama-export-lora"),
    "mmproj": ("a projector (mmproj) for images or sound, not a language model", _BASE),
    "imatrix": ("an importance matrix for quantization, not a model", _BASE),
    "vocab": ("a vocabulary without weights", _BASE),
}
_PROJECTORS = frozenset({"clip", "mmproj"})
"""Architectures of projectors; files from before ``general.type`` have only this."""


def require_whole_model(file: GgufFile) -> None:
    """Check that a file holds a language model, and all of it.

    Raises:
        InvalidInput: If it is a part of a split model, an adapter, a projector, an importance matrix or a vocabulary.
    """
    _refuse_parts(file)
    kind = file.text("general.type", "model")
    if kind == "model" and "adapter.type" in file.metadata:
        kind = "adapter"
    if kind == "model" and file.text("general.architecture") in _PROJECTORS:
        kind = "mmproj"
    if kind == "model" and not file.tensors:
        kind = "vocab"
    if kind in _TYPES:
        what, hint = _TYPES[kind]
        raise file.error(f"the file is {what}", hint)
    if kind != "model":
        raise file.error(f"key 'general.type' is '{kind}', not 'model'", _BASE)


def part_hint(path: Path) -> str:
    """What to do if the name of a file says that it is a part of one; empty if it does not."""
    match = _PART.search(path.name)
    if match is None or match[2] == "00001":
        return ""
    if match[1] is None:
        return f"'{path.name}' is named like a part of a file; join the parts, in their order, into one file"
    part, count = int(match[1]), int(match[2])
    return f"'{path.name}' is named as part {part} of {count}; merge the parts with llama-gguf-split --merge"


def _refuse_parts(file: GgufFile) -> None:
    count = file.integer("split.count", 0)
    if count <= 1:
        return
    number = file.integer("split.no", 0) + 1
    first = _PART.sub(f"-00001-of-{count:05d}", file.path.name)
    raise InvalidInput(
        f"{file.path}: the file is one part of several, part {number} of {count}",
        hint=f"merge the parts: llama-gguf-split --merge {first} WHOLE.gguf",
    )
