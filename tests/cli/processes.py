"""The command as a process, with pipes or on a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import Any

__all__ = ["finish", "on_terminal", "start"]


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a command whose streams are pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "forerun", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80", **options.pop("env", {})},
        preexec_fn=_listen_to_interrupts,
        **options,
    )


def finish(*arguments: object, **options: Any) -> tuple[int, str, str]:
    """Run a command: its status, standard output and standard error."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def on_terminal(*arguments: object, typed: str = "", at: str = "") -> tuple[int, str]:
    """Run a command on a terminal.

    Args:
        arguments: Of the command.
        typed: What somebody types.
        at: What must have appeared by then.

    Returns:
        The status, and all that the terminal showed, with line feeds alone.
    """
    main, side = pty.openpty()
    command = [sys.executable, "-m", "forerun", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    process = subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, env=environment, preexec_fn=_listen_to_interrupts
    )
    os.close(side)
    shown = ""
    while True:
        try:
            found = os.read(main, 1 << 16).decode(errors="replace")
        except OSError:  # the process has ended, and so has the terminal
            break
        if not found:
            break
        shown += found
        if typed and at in shown:
            os.write(main, typed.encode())
            typed = ""
    os.close(main)
    return process.wait(timeout=600), shown.replace("\r\n", "\n")


def _listen_to_interrupts() -> None:
    """A shell that starts the tests in the background lets them ignore interrupts, and commands would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
