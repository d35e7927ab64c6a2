"""The PTX that images were assembled from: Triton keeps both, side by side, in its cache.

A text counts only if its assembler makes the loaded code of it again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from forerun.captured.graph import AssembledText, digest_of

__all__ = ["FoundText", "stored_digest", "triton_texts"]


@dataclass(frozen=True, slots=True)
class FoundText:
    """A text, and the assembler that made an image of it.

    Attributes:
        text: The text.
        assembler: The path of ptxas.
        architecture: Such as ``sm_90a``.
    """

    text: AssembledText
    assembler: str
    architecture: str


def stored_digest(code: bytes) -> str:
    """The digest of machine code without zeros at its end: what is loaded may be padded, and CuPy drops a last byte."""
    return digest_of(code.rstrip(b"\0"))


def triton_texts(images: Iterable[str]) -> Mapping[str, FoundText]:
    """The texts of images, by their :func:`stored_digest`, as far as Triton's caches have them."""
    wanted = set(images)
    found: dict[str, FoundText] = {}
    for folder in _caches():
        for path in folder.glob("**/*.cubin"):
            if not wanted - found.keys():
                return found
            digest = _digest(path)
            if digest in wanted and digest not in found:
                text = _beside(path)
                if text is not None:
                    found[digest] = text
    return found


def _caches() -> Iterator[Path]:
    """Where Triton and Inductor keep what they compile."""
    named = [os.environ.get("TRITON_CACHE_DIR", ""), os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")]
    homes = [os.environ.get("TRITON_HOME", ""), str(Path.home())]
    places = [Path(name) for name in named if name] + [Path(home, ".triton", "cache") for home in homes if home]
    inductor = sys.modules.get("torch._inductor.runtime.cache_dir_utils")
    if inductor is not None:
        places.append(Path(inductor.cache_dir()))
    return (place for place in dict.fromkeys(places) if place.is_dir())


def _digest(path: Path) -> str:
    try:
        return stored_digest(path.read_bytes())
    except OSError:
        return ""


def _beside(cubin: Path) -> FoundText | None:
    """The text beside an image, with the options that Triton gives ptxas (its ``make_cubin``)."""
    try:
        text = cubin.with_suffix(".ptx").read_text(encoding="utf-8")
        about = json.loads(cubin.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    tool = _ptxas(about)
    if tool is None:
        return None
    path, version = tool
    options = ["-lineinfo"]
    options += [] if about.get("enable_fp_fusion", True) else ["--fmad=false"]
    options += str(about.get("ptx_options") or "").split()
    target = next((line.split()[1] for line in text.splitlines() if line.startswith(".target")), "")
    architecture = target.rstrip(",") or "sm_90a"
    return FoundText(AssembledText(text, tuple(options), version, "Triton"), path, architecture)


def _ptxas(about: Mapping[str, object]) -> tuple[str, str] | None:
    """The assembler that Triton uses, and its version."""
    try:
        from triton import knobs
    except ImportError:
        return None
    arch = about.get("arch")
    number = int(str(arch).removeprefix("sm").strip("_af") or 90) if arch else 90
    tool = knobs.nvidia.ptxas if number < 100 else getattr(knobs.nvidia, "ptxas_blackwell", knobs.nvidia.ptxas)
    return str(tool.path), str(tool.version)
