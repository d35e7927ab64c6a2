"""Machine code of kernels that are not needed, zeroed in a shared library, so that the library travels as a small file.

    python benchmarks/prune_fatbin.py LIBRARY OUT REGEX

The library's section ``.nv_fatbin`` holds containers of cubins, each named after its source file. Those whose name the
regular expression does not find keep their headers, so that they register as before (the driver loads a cubin when
one of its kernels is first called), but their code is zeros. FlashAttention-3's wheel of 301 MB is 63 MB packed;
with ``hdim(64|128)_bf16|combine|scheduler`` it is 6 MB in xz.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

__all__ = ["main", "pruned"]

_MAGIC = 0xBA55ED50
_CONTAINER, _ENTRY = struct.Struct("<IHHQ"), struct.Struct("<HHIQ")


def pruned(library: bytes, begin: int, size: int, kept: re.Pattern[bytes]) -> tuple[bytes, list[str]]:
    """The library with zeros for the code that is not kept, and the names of what was kept.

    Args:
        library: The file's bytes.
        begin: Offset of its section ``.nv_fatbin``.
        size: Bytes of that section.
        kept: Found in the names of the cubins that stay.
    """
    made, names, at = bytearray(library), [], begin
    while at < begin + size:
        magic, _, header, length = _CONTAINER.unpack_from(library, at)
        if magic != _MAGIC:
            at += 8
            continue
        entry = at + header
        at = entry + length
        while entry < at:
            _, _, own, code = _ENTRY.unpack_from(library, entry)
            described = library[entry : entry + own]
            if kept.search(described):
                names.append(_names(described))
            else:
                made[entry + own : entry + own + code] = bytes(code)
            entry += own + code
    return bytes(made), names


def _names(described: bytes) -> str:
    found = re.findall(rb"[!-~]{8,}", described[_ENTRY.size :])
    return b" ".join(found).decode()


def _section(library: Path) -> tuple[int, int]:
    listed = subprocess.run(["readelf", "-SW", str(library)], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\.nv_fatbin\s+PROGBITS\s+\w+\s+(\w+)\s+(\w+)", listed)
    if found is None:
        raise SystemExit(f"{library} has no section .nv_fatbin")
    return int(found[1], 16), int(found[2], 16)


def main(arguments: list[str]) -> int:
    """Prune a library."""
    library, out, kept = Path(arguments[0]), Path(arguments[1]), re.compile(arguments[2].encode())
    made, names = pruned(library.read_bytes(), *_section(library), kept)
    out.write_bytes(made)
    print(f"kept {len(names)} cubins:", *names, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
