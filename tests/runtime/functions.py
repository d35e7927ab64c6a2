"""Phase and host functions of the runtime's tests."""

from __future__ import annotations

from typing import Any

import numpy as np


def keep(value: Any) -> Any:
    return value


def as_row(x: Any) -> Any:
    return x[np.newaxis]


def swap(a: Any, b: Any) -> Any:
    return b, a


def twice(x: Any) -> Any:
    return 2 * x


def pair(a: Any, b: Any) -> Any:
    return np.concatenate((a, b))


RECORDED: list[list[Any]] = []


def recorded(x: Any) -> Any:
    RECORDED.append(x.tolist())
    return x


def plus(x: Any, number: Any) -> Any:
    return x + number


def kept_plus(x: Any, kept: Any) -> Any:
    return x + kept


def add_scalars(x: Any, first: Any, second: Any) -> Any:
    return x + x.dtype.type(first) * x.dtype.type(second)


def countdown(n: Any) -> Any:
    return n - 1


def increment(x: Any) -> Any:
    return x + 1


def ones() -> Any:
    return np.ones(4, np.int32)


def total(x: Any) -> Any:
    return np.array([x.sum()], x.dtype)


def wrong_shape(x: Any) -> Any:
    return x[:1]


def wrong_type(x: Any) -> Any:
    return x.astype(np.float64) + 0.5


def not_an_array(x: Any) -> Any:
    return x.tolist()


def nothing(x: Any) -> Any:
    return None


def raises(x: Any) -> Any:
    return {}["missing"]


def spoils(x: Any) -> Any:
    x += 1
    return x


NOT_CALLABLE = 3
