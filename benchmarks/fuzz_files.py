# ruff: noqa: SIM905 - words in rows read better than a list of strings
"""Files that are wrong in every way: readers and commands answer with exit status 0 to 3, and never otherwise.

Good files of each kind are changed by bytes, by words, and by structure; splices take parts of other files. What counts
as a finding: an internal error (status 4), an exception that is not documented, more memory than 4 GiB, or more than 20
seconds of CPU time for one file.

Run from the repository's root: ``python -m benchmarks.fuzz_files --seconds 300``.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import origin

from forerun.cli import main
from forerun.frontends.llama import LlamaModel
from forerun.passes.infra.registry import builtin
from forerun.passes.infra.tuning import read_tuning
from forerun.report import SUMMARY_FILE, TIMELINE_FILE, write_report
from forerun.runtime.litmus import read_record
from forerun.runtime.reference.schedule import Schedule
from forerun.support.diagnostics import InvalidInput, Refuted, Unsupported
from forerun.support.options import specs

__all__ = ["KINDS", "Tally", "fuzz"]

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fuzz_files.json"
MOST_SECONDS = 20
MOST_MEMORY = 4 << 30
DOCUMENTED = (InvalidInput, Refuted, Unsupported)

INTEGERS = [0, 1, -1, 7, 31, 127, 255, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
WORDS = [
    *"forerun 1 graph alloc buffer kernel node after dep role phase wait trigger barrier grid reads writes".split(),
    *"scalars async ref opaque cuda ptx scalar f32 i32 temp input output at on in paged ragged device host".split(),
    *"copy fill with empty free event_record event_wait child if else while switch case load inf nan full".split(),
    *"programmatic launch_order %x $x @x #x _ 0 1 -1 { } ( ) [ ] : , = + - * -> .. . // 1.5 1e400 0x10".split(),
    *['""', '"a\\nproved"', '"\\x1b[2J"', '"\\u202e"', "9" * 1000, "-" + "9" * 1000, "0x" + "f" * 4000, "9" * 1001],
    *["18446744073709551616", "9223372036854775807", "-9223372036854775808", "1e308", "nan(0x1)", "\n", "\t", "\x00"],
]
TOKENS = re.compile(r'"(?:[^"\\\n]|\\.)*"|[%$#@]?\w+|\s+|.')
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    3,
    1 << 62,
    10**19,
    1e300,
    -1.5,
    "",
    "x",
    "a\x1b[2J",
    "..",
    [],
    [[]],
    {},
    {"x": 1},
]


@dataclass
class Kind:
    """A kind of file: good ones, how to change them, and what reads them."""

    seeds: Callable[[], list[bytes]]
    change: Callable[[random.Random, bytes, bytes], bytes]
    read: Callable[[bytes, Path, random.Random], str]


@dataclass
class Tally:
    """What a run came to.

    Attributes:
        counts: Outcomes by kind of file.
        findings: The first file for each kind, exception and place.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)


class _TooSlowError(BaseException):
    pass


# Changes


def _bytes(chooser: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chooser.randint(1, 4)):
        if not changed:
            break
        at = chooser.randrange(len(changed))
        match chooser.randrange(6):
            case 0:
                changed[at] ^= 1 << chooser.randrange(8)
            case 1:
                changed[at] = chooser.choice([0, 1, 9, 10, 32, 34, 92, 127, 128, 255])
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + chooser.randint(1, 40)]
            case 4:
                changed[at:at] = changed[at : at + chooser.randint(1, 40)]
            case 5 if other:
                start = chooser.randrange(len(other))
                changed[at : at + chooser.choice([0, 20])] = other[start : start + chooser.randint(1, 400)]
    return bytes(changed)


def _text(chooser: random.Random, data: bytes, other: bytes) -> bytes:
    if chooser.random() < 0.2:
        return _bytes(chooser, data, other)
    tokens, others = TOKENS.findall(data.decode()), TOKENS.findall(other.decode())
    for _ in range(chooser.choice([1, 1, 1, 2, 4])):
        at, second = chooser.randrange(len(tokens)), chooser.randrange(len(tokens))
        match chooser.choice([0, 1, 2, 3, 4, 5, 5, 5, 6]):
            case 0:
                tokens[at] = ""
            case 1:
                tokens[at] = f"{tokens[at]} {tokens[at]}"
            case 2:
                tokens[at], tokens[second] = tokens[second], tokens[at]
            case 3:
                tokens[at] = chooser.choice(WORDS)
            case 4:
                tokens[at] = tokens[second]
            case 5:
                numbers = [place for place, token in enumerate(tokens) if token.isdigit()]
                tokens[chooser.choice(numbers or [at])] = str(
                    chooser.choice([*INTEGERS, "9" * 1000, "0x" + "f" * 4094])
                )
            case 6:
                start = chooser.randrange(len(others))
                tokens[at:at] = others[start : start + chooser.randint(1, 60)]
    return "".join(tokens).encode()


def _json(chooser: random.Random, data: bytes, other: bytes) -> bytes:
    if chooser.random() < 0.2:
        return _bytes(chooser, data, other)
    value = json.loads(data)
    for _ in range(chooser.randint(1, 3)):
        places = list(_places(value))
        if not places:
            break
        holder, key = chooser.choice(places)
        match chooser.randrange(5):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1:
                holder[key] = chooser.choice(places)[0]
            case 2:
                holder[key] = json.loads(other)
            case _:
                holder[key] = chooser.choice(VALUES)
        with contextlib.suppress(ValueError):  # what holds itself cannot be written
            data = json.dumps(value).encode()
    return data


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 4)) if isinstance(value, list) else ()
    for key in keys if depth < 6 else ():
        yield value, key
        yield from _places(value[key], depth + 1)


def _gguf(chooser: random.Random, data: bytes, other: bytes) -> bytes:
    """Numbers of the header become others, at any place; or bytes of it."""
    if chooser.random() < 0.3:
        return _bytes(chooser, data[: chooser.choice([3000, len(data)])], other)
    changed = bytearray(data)
    for _ in range(chooser.randint(1, 3)):
        size = chooser.choice([4, 8])
        at = chooser.randrange(min(len(changed) - 8, chooser.choice([64, 2000, len(changed) - 8])))
        number = chooser.choice([*INTEGERS, chooser.randrange(40), len(data)])
        changed[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(changed)


# Readers


def _command(*arguments: str) -> str:
    """A command's status, in this process; an internal error is raised with the place at which it came up."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    if status not in (0, 1, 2, 3):
        places = re.findall(r'File "[^"]*?(forerun/[^"]*)", line (\d+)', err.getvalue())
        line = next((x for x in reversed(err.getvalue().splitlines()) if x.startswith("error: ")), "")
        raise AssertionError(
            f"{arguments[0]}: status {status} at {':'.join(places[-1]) if places else '?'}: {line[:300]}"
        )
    return f"status {status}"


PIPELINES = ["infer-dependencies,insert-pdl", "exact"]
PIPELINES += [name for name, cls in builtin().items() if not any(spec.is_file for spec in specs(cls))]


def _read_fir(data: bytes, folder: Path, chooser: random.Random) -> str:
    path = folder / "a.fir"
    path.write_bytes(data)
    json_option = ["--json"] if chooser.random() < 0.5 else []
    status = _command("check", str(path), *json_option, "-v")
    if status != "status 2" or chooser.random() < 0.1:
        _command("opt", str(path), "-p", chooser.choice(PIPELINES), "-v", *chooser.choice([[], ["--no-verify"]]))
        _command("check", str(path), str(path), "-v")
        if chooser.random() < 0.2:
            _command("opt", str(path), "-p", chooser.choice(PIPELINES), "--dump", str(folder / "d"), "-v")
    return status


def _read_gguf(data: bytes, folder: Path, chooser: random.Random) -> str:
    path = folder / "a.gguf"
    path.write_bytes(data)
    model = LlamaModel.open(path)
    model.tokenizer.encode("the capital of France \x1b\u202e")
    for name in model.weights:
        if not model.weights[name].size:
            raise AssertionError(f"weight {name} is empty")
    return "read"


def _read_with(read: Callable[[Path], object]) -> Callable[[bytes, Path, random.Random], str]:
    def reader(data: bytes, folder: Path, chooser: random.Random) -> str:
        path = folder / "a.json"
        path.write_bytes(data)
        read(path)
        return "read"

    return reader


def _read_summary(data: bytes, folder: Path, chooser: random.Random) -> str:
    (folder / SUMMARY_FILE).write_bytes(data)
    (folder / "00-input.fir").write_bytes(_fir_seeds()[0])
    write_report(folder)
    return "read"


def _read_timeline(data: bytes, folder: Path, chooser: random.Random) -> str:
    (folder / SUMMARY_FILE).write_bytes(_json_seeds("SUMMARY")[0])
    (folder / TIMELINE_FILE).write_bytes(data)
    write_report(folder)
    return "read"


# Good files


def _fir_seeds() -> list[bytes]:
    folders = ("tests/cases", "tests/incidents", "examples")
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.fir"))
    return [path.read_bytes() for path in paths if path.stat().st_size < 5000]


def _gguf_seeds() -> list[bytes]:
    from tests.tiny_gguf import write_tiny_gguf

    with tempfile.TemporaryDirectory() as folder:
        return [write_tiny_gguf(Path(folder) / "a", tokenizer=kind).read_bytes() for kind in ("gpt2", "llama")]


def _json_seeds(name: str) -> list[bytes]:
    from tests.support import test_json_reader as good

    return [json.dumps(getattr(good, name)).encode()]


def _litmus_seeds() -> list[bytes]:
    data = json.loads((ROOT / "benchmarks" / "results" / "litmus_h100.json").read_text())
    return [json.dumps(data | {"tests": data["tests"][:2]}).encode()]


KINDS = {
    "fir": Kind(_fir_seeds, _text, _read_fir),
    "gguf": Kind(_gguf_seeds, _gguf, _read_gguf),
    "summary": Kind(lambda: _json_seeds("SUMMARY"), _json, _read_summary),
    "timeline": Kind(lambda: _json_seeds("TIMELINE"), _json, _read_timeline),
    "tuning": Kind(lambda: _json_seeds("TUNING"), _json, _read_with(read_tuning)),
    "schedule": Kind(lambda: _json_seeds("SCHEDULE"), _json, _read_with(Schedule.load)),
    "litmus": Kind(_litmus_seeds, _json, _read_with(read_record)),
}


# The run


def fuzz(kind: str, seeds: Iterator[int], tally: Tally, deadline: float | None = None) -> None:
    """Try files of one kind.

    Args:
        kind: One of :data:`KINDS`.
        seeds: A file for each.
        tally: What becomes of them is added to it.
        deadline: On the clock of ``time.monotonic``.
    """
    subject, counts = KINDS[kind], tally.counts.setdefault(kind, Counter())
    good = subject.seeds()
    for seed in seeds:
        if deadline is not None and time.monotonic() > deadline:
            return
        chooser = random.Random(f"{kind} {seed}")
        data = subject.change(chooser, chooser.choice(good), chooser.choice(good))
        counts["files"] += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                counts[_timed(subject.read, data, Path(folder), chooser)] += 1
            except DOCUMENTED as error:
                counts[type(error).__name__] += 1
            except (Exception, _TooSlowError) as error:
                counts["findings"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                words = re.sub(r"/tmp/\S+?/", "", str(error))[:300]
                key = (
                    f"{kind}: {type(error).__name__} {place.name}:{place.lineno}: {re.sub(r'[0-9]+', '#', words)[:120]}"
                )
                content = base64.b64encode(data).decode() if len(data) < 20_000 else ""
                tally.findings.setdefault(key, {"seed": seed, "words": words, "file": content})


def _timed(read: Callable[[bytes, Path, random.Random], str], data: bytes, folder: Path, chooser: random.Random) -> str:
    def late(signum: int, frame: object) -> None:
        raise _TooSlowError(f"more than {MOST_SECONDS} seconds of CPU time")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        return read(data, folder, chooser)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="time in all, divided among the kinds of files")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    os.environ["FORERUN_CACHE_DIR"] = tempfile.mkdtemp()
    kinds, tally, measured = options.kind or list(KINDS), Tally(), origin()
    weights = {kind: 4 if kind == "fir" else 2 if kind == "gguf" else 1 for kind in kinds}
    for kind in kinds:
        share = options.seconds * weights[kind] / sum(weights.values())
        fuzz(kind, iter(range(options.start, sys.maxsize)), tally, time.monotonic() + share)
        print(kind, dict(tally.counts[kind]), flush=True)
    told = {
        "name": "fuzz_files",
        **measured,
        "seconds": options.seconds,
        "first_seed": options.start,
        "most_memory_bytes": MOST_MEMORY,
        "most_seconds_per_file": MOST_SECONDS,
        "counts": {kind: dict(sorted(found.items())) for kind, found in tally.counts.items()},
        "findings": tally.findings,
    }
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    for key, finding in tally.findings.items():
        print(f"{key}: seed {finding['seed']}")
    return bool(tally.findings)


if __name__ == "__main__":
    sys.exit(_main())
