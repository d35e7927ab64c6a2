"""Pipelines: sequences of passes, and their text."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from forerun.ir.text.spelling import quote
from forerun.ir.trust import is_module_name
from forerun.passes.infra import registry
from forerun.passes.infra.base import Pass
from forerun.passes.infra.named_pipelines import NAMED_PIPELINES
from forerun.support.diagnostics import InvalidInput, closest
from forerun.support.escaping import visible
from forerun.support.option_text import ItemText, OptionTextError, Span, format_item, parse_items
from forerun.support.options import build, non_default_texts

__all__ = ["BY_TARGET", "Pipeline", "PipelineLike", "loads_for"]

BY_TARGET = "auto"
"""Stands for ``fast`` on a GPU, and for ``exact`` elsewhere, wherever a target is known."""

PipelineLike: TypeAlias = "str | Pass | Pipeline | Iterable[str | Pass | Pipeline] | None"
"""What :meth:`Pipeline.of` takes."""

_Finding = tuple[str, str, Span, str]


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run.

    Example:
        >>> pipeline = Pipeline.parse("infer-dependencies, insert-pdl{trigger=start}")
        >>> len(pipeline)
        2
        >>> Pipeline.parse(str(pipeline)) == pipeline
        True
    """

    passes: tuple[Pass, ...] = ()

    def __init__(self, passes: Iterable[Pass] = ()) -> None:
        passes = tuple(passes)
        for value in passes:
            if not isinstance(value, Pass):
                hint = "add parentheses" if isinstance(value, type) else "Pipeline.parse reads pipeline text"
                raise InvalidInput(f"a pipeline holds passes, not {value!r}", hint=hint)
        object.__setattr__(self, "passes", passes)

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """The pipeline that a text describes (docs/debugging-a-pipeline.md has the grammar).

        Raises:
            OptionTextError: An :class:`InvalidInput` with one diagnostic, and its column, for each error.
        """
        return cls(_parsed(text))

    @classmethod
    def of(cls, pipeline: PipelineLike) -> Pipeline:
        """The pipeline that something describes.

        Args:
            pipeline: Pipeline text, a pass, or several of both, one after the other; ``None`` and ``""`` are no passes.

        Raises:
            InvalidInput: If a text is wrong, or something is neither text nor pass.

        Example:
            >>> str(Pipeline.of(["infer-dependencies", "insert-pdl{trigger=end},hoist-loads"]))
            'infer-dependencies,insert-pdl{trigger=end},hoist-loads'
        """
        if isinstance(pipeline, Pipeline):
            return pipeline
        if pipeline is None or isinstance(pipeline, str):
            return cls.parse(pipeline or "")
        if isinstance(pipeline, Pass):
            return cls((pipeline,))
        if not isinstance(pipeline, Iterable) or isinstance(pipeline, (type, bytes)):
            hint = "add parentheses" if isinstance(pipeline, type) else "give passes, pipeline text, or a list of them"
            raise InvalidInput(f"{pipeline!r} is not a pipeline", hint=hint)
        parts = (cls.of(part) if isinstance(part, (str, Pipeline)) else cls((part,)) for part in pipeline)
        return cls(subject for part in parts for subject in part)

    @classmethod
    def from_file(cls, text: str, who: str, recorded: Iterable[str] = ()) -> Pipeline:
        """The pipeline that a file describes, if its passes are known or vouched for; it imports nothing of others.

        Known are forerun's passes, those that installed packages declare, and those that the program or ``--load``
        registered. A class of a module must be of one that somebody vouched for. The modules and files that the file
        says define its passes (``recorded``) are shown, and not imported; ``who`` is the file, for messages.

        Raises:
            OptionTextError: If the text is wrong.
            InvalidInput: If it names a class of a module that nobody vouched for.
        """
        strangers = cls.strangers(text)
        if strangers:
            message = f"{who} names passes of modules that nobody vouched for: {', '.join(map(quote, strangers))}"
            loads = " ".join(f"--load {shlex.quote(visible(load))}" for load in loads_for(strangers, recorded))
            raise InvalidInput(message, hint=f"if you trust them, pass {loads or '--load'}")
        return cls.parse(text)

    @staticmethod
    def strangers(text: str) -> tuple[str, ...]:
        """The passes of a pipeline text that are classes of modules that nobody vouched for.

        Raises:
            OptionTextError: If the text is wrong.
        """
        names = (item.name for item in parse_items(text, "pipeline"))
        return tuple(dict.fromkeys(name for name in names if ":" in name and not registry.is_vouched(name)))

    @property
    def portable_text(self) -> str:
        """The text with passes that are not installed written ``module:Class``; :attr:`loads` makes them known."""
        return _text(self, portable=True)

    @property
    def loads(self) -> tuple[str, ...]:
        """Modules and files that define the passes that are not installed, for ``forerun opt --load``."""
        found = (registry.load_argument(type(subject)) for subject in self)
        return tuple(dict.fromkeys(argument for argument in found if argument is not None))

    def __str__(self) -> str:
        return _text(self, portable=False)

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    def __len__(self) -> int:
        return len(self.passes)


def loads_for(names: Iterable[str], recorded: Iterable[str] = ()) -> list[str]:
    """What ``--load`` takes to make ``module:name`` known: the modules, or the paths that a file recorded for them."""
    places = {Path(place).stem if place.endswith(".py") else place: place for place in recorded}
    modules = dict.fromkeys(name.partition(":")[0] for name in names)
    return [places.get(module, module) for module in modules if is_module_name(module)]


def _text(passes: Iterable[Pass], *, portable: bool) -> str:
    named = ((registry.spelling(type(p), portable=portable), non_default_texts(p)) for p in passes)
    return ",".join(format_item(name, options) for name, options in named)


def _parsed(text: str) -> list[Pass]:
    passes: list[Pass] = []
    findings: list[_Finding] = []
    for item in parse_items(text, "pipeline"):
        named = NAMED_PIPELINES.get(item.name)
        if named is not None:
            message = f"the {item.name} pipeline has no options"
            findings += [("O3", message, option.key_span, "") for option in item.options[:1]]
            passes += _parsed(named)
            continue
        found, errors = _pass_of(item)
        findings += errors
        if found is not None:
            passes.append(found)
    if findings:
        raise OptionTextError.of("pipeline", text, findings)
    return passes


def _pass_of(item: ItemText) -> tuple[Pass | None, list[_Finding]]:
    try:
        cls = registry.get(item.name)
    except InvalidInput as error:
        near = closest(item.name, NAMED_PIPELINES)
        hint = error.hint if near is None or error.hint.startswith("did you mean") else f"did you mean '{near}'?"
        return None, [("O2", error.message, item.span, hint)]
    return build(cls, item)
