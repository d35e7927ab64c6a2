"""Pipelines and their text."""

from __future__ import annotations

import infra_samples
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from infra_samples import Add, Colour, Drop, Fail, Nothing, Optioned, Unregistered

from forerun.passes.infra.named_pipelines import EXACT_PIPELINE
from forerun.passes.infra.pipeline import Pipeline
from forerun.support.diagnostics import InvalidInput
from forerun.support.option_text import OptionTextError

passes = st.one_of(
    st.just(Nothing()),
    st.builds(Drop, keep=st.integers()),
    st.builds(Unregistered, count=st.integers()),
    st.builds(
        Optioned,
        flag=st.booleans(),
        count=st.integers(),
        ratio=st.floats(allow_nan=False),
        text=st.text(),
        mode=st.sampled_from(["fast", "slow"]),
        colour=st.sampled_from(Colour),
        max_count=st.none() | st.integers(),
    ),
)


@given(st.lists(passes, max_size=5).map(Pipeline))
def test_pipelines_come_back_from_their_text(pipeline: Pipeline) -> None:
    event(f"{len(pipeline)} passes")
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert Pipeline.parse(pipeline.portable_text) == pipeline


def test_text() -> None:
    pipeline = Pipeline.parse("test-drop{keep=2} , test-nothing{},\n infra_samples:Unregistered{count=1}")
    assert pipeline.passes == (Drop(2), Nothing(), Unregistered(1))
    assert str(pipeline) == "test-drop{keep=2},test-nothing,infra_samples:Unregistered{count=1}"
    assert pipeline.portable_text.startswith("infra_samples:Drop{keep=2},infra_samples:Nothing,")
    assert list(pipeline) == list(pipeline.passes)
    assert pipeline.loads == (infra_samples.__file__,)


def test_the_empty_pipeline() -> None:
    assert Pipeline.parse("") == Pipeline() == Pipeline(())
    assert str(Pipeline()) == ""


def test_default_stands_for_the_default_pipeline() -> None:
    assert str(Pipeline.parse("exact")) == EXACT_PIPELINE
    assert str(Pipeline.parse("test-nothing,exact,test-nothing")) == f"test-nothing,{EXACT_PIPELINE},test-nothing"


@pytest.mark.parametrize(
    ("text", "code", "message", "column", "length", "hint"),
    [
        ("test-drop,test-nothin", "O2", "no pass 'test-nothin'", 11, 11, "did you mean 'test-nothing'?"),
        ("exac", "O2", "no pass 'exac'", 1, 4, "did you mean 'exact'?"),
        ("test-drop{keeep=1}", "O3", "'test-drop' has no option 'keeep'", 11, 5, "did you mean 'keep'?"),
        ("test-nothing{a=1}", "O3", "'test-nothing' has no option 'a'", 14, 1, "it has no options"),
        ("test-drop{keep=all}", "O4", "option 'keep' cannot be 'all'", 16, 3, "it accepts an integer"),
        (
            "test-fail{how=rise}",
            "O4",
            "option 'how' cannot be 'rise'",
            15,
            4,
            "did you mean 'raise'? it accepts one of raise, unsupported, none",
        ),
        ("exact{x=1}", "O3", "the exact pipeline has no options", 7, 1, ""),
        ("nope_nope:X", "O2", "module 'nope_nope' cannot be imported: ModuleNotFoundError: No module named 'nope_nope'",
         1, 11, "forerun opt --load nope_nope finds modules of the current folder"),
    ],
)  # fmt: skip
def test_errors_are_located(text: str, code: str, message: str, column: int, length: int, hint: str) -> None:
    with pytest.raises(OptionTextError) as caught:
        Pipeline.parse(text)
    (diagnostic,) = caught.value.diagnostics
    place = diagnostic.location
    assert (diagnostic.code, diagnostic.message, diagnostic.hint) == (code, message, hint)
    assert (place.kind, place.line, place.column, place.length) == ("text", 1, column, length)


def test_all_errors_are_told_and_drawn() -> None:
    with pytest.raises(InvalidInput) as caught:
        Pipeline.parse("test-drop{keep=x},nothing-like-it,test-add")
    assert str(caught.value).startswith(
        "bad pipeline:\n"
        "  test-drop{keep=x},nothing-like-it,test-add\n"
        "                 ^\n"
        "  error[O4]: option 'keep' cannot be 'x'\n"
        "  hint: it accepts an integer\n"
        "  test-drop{keep=x},nothing-like-it,test-add\n"
        "                    ^^^^^^^^^^^^^^^\n"
        "  error[O2]: no pass 'nothing-like-it'\n"
        "  hint: valid names: "
    )
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("wrong", [[Add], ["test-add"], [None]])
def test_a_pipeline_holds_passes(wrong: list[object]) -> None:
    with pytest.raises(InvalidInput, match="a pipeline holds passes, not"):
        Pipeline(wrong)  # type: ignore[arg-type]


def test_a_class_in_the_place_of_a_pass_gets_a_hint() -> None:
    with pytest.raises(InvalidInput, match="add parentheses"):
        Pipeline([Fail])  # type: ignore[list-item]
