"""The pytest plugin: ``pytest --forerun-pass mypkg.MyPass`` tries all properties on a pass.

It does nothing unless it is asked for, and imports nothing heavy until then: pytest loads it in every run wherever
forerun is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

__all__ = ["pytest_addoption", "pytest_configure"]

_OPTION = "--forerun-pass"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("forerun", "properties of graph passes (forerun)")
    group.addoption(
        _OPTION,
        action="append",
        default=[],
        metavar="PASS",
        help="try all properties on a pass: mypkg.MyPass, mypkg:MyPass, or pipeline text; repeatable. "
        "Without test paths, nothing else runs.",
    )
    group.addoption(
        "--forerun-load",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module, and let graphs call its functions, as those of the modules that other options name",
    )
    group.addoption("--forerun-examples", type=int, default=100, metavar="N", help="graphs a property (default: 100)")
    group.addoption(
        "--forerun-graphs",
        metavar="MODULE:NAME",
        help="a Hypothesis strategy of graphs, or a function that returns one, to use instead of forerun's own",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the suite to what is collected, if it was asked for."""
    if not config.getoption("forerun_pass"):
        return
    _find_modules_as_forerun_does(config)
    from forerun.testing.suite import require_usable
    from forerun.testing.tally import Tally

    require_usable(config)
    config.pluginmanager.register(Tally(), "forerun-tally")
    config.addinivalue_line("markers", "forerun_pass: a property of a pass, from --forerun-pass")
    suite = str(Path(__file__).with_name("suite.py"))
    on_command_line = any(str(word).startswith(_OPTION) for word in config.invocation_params.args)
    paths_given = config.args_source is pytest.Config.ArgsSource.ARGS
    if suite in config.args:
        return  # a worker of pytest-xdist gets what its controller decided
    if on_command_line and not paths_given:
        config.args[:] = [suite]
    else:
        config.args.append(suite)


def _find_modules_as_forerun_does(config: pytest.Config) -> None:
    """The current folder counts, as for ``forerun fuzz --load``."""
    here = str(config.invocation_params.dir)
    if here not in sys.path:
        sys.path.insert(0, here)
