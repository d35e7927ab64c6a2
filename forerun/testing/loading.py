"""Strategies of users, by name."""

from __future__ import annotations

import importlib
from typing import Any

from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.trust import vouch_in_scope
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["load_strategy", "load_trusted"]


def load_trusted(name: str) -> Any:
    """A module that the user names, and so vouches for: graphs may call its functions from then on.

    Raises:
        InvalidInput: If it cannot be imported.
    """
    try:
        module: Any = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a foreign module raises
        raise InvalidInput(f"module '{name}' cannot be imported: {type(error).__name__}: {error}") from error
    vouch_in_scope(name)
    return module


def load_strategy(path: str) -> st.SearchStrategy[Graph]:
    """The strategy that ``module:name`` names: a Hypothesis strategy, or a function without arguments that returns one.

    Whoever names it vouches for its module: its graphs may call the functions of that module from then on.

    Raises:
        InvalidInput: If there is none.
    """
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise InvalidInput(f"'{path}' is not of the form module:name")
    module = load_trusted(module_name)
    found = getattr(module, name, None)
    if found is None:
        hint = did_you_mean(name, [key for key in vars(module) if not key.startswith("_")])
        raise InvalidInput(f"module '{module_name}' has no '{name}'", hint=hint)
    strategy = found() if callable(found) else found
    if not isinstance(strategy, st.SearchStrategy):
        raise InvalidInput(f"'{path}' is not a Hypothesis strategy, but a {type(strategy).__name__}")
    return strategy
