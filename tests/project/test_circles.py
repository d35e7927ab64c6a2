"""Modules do not import each other in circles, but for those that a graph and its edits need each other for."""

from benchmarks.house import circles


def test_circles_of_imports() -> None:
    assert circles() == [["forerun.ir.edit", "forerun.ir.graph", "forerun.ir.walk"]]
