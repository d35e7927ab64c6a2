"""Greedy generation with a compiled decode step, or with a loop around it on the device."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forerun.frontends.not_finite import Readable, require_finite_logits
from forerun.frontends.tokenizer import TextStream, Tokenizer
from forerun.ir.graph import Graph
from forerun.support.diagnostics import InvalidInput

__all__ = ["DecodeStep", "Generation", "generate", "prompt_tokens"]

_LOOP = "tokens"
"""The buffer that only a generation graph has: what its loop has chosen."""


class DecodeStep(Readable, Protocol):
    """What is needed of an executable: a graph of :mod:`~forerun.frontends.decode`, ready to run.

    It has ``graph``, whose buffer ``position`` says how many positions there are, and ``read(buffer)``, which copies
    what a buffer of any role holds.
    """

    def run(self, inputs: Mapping[str, NDArray[Any]], /) -> Mapping[str, NDArray[Any]]:
        """Outputs by name."""
        ...


@dataclass(frozen=True, slots=True)
class Generation:
    """What was generated, and how long it took.

    Attributes:
        prompt_tokens: The tokens of the prompt.
        tokens: The new tokens; the one that ended generation is left out.
        text: Their text, as streamed.
        stop: Why it ended: ``end`` (the model's own end token), ``length`` (``max_new_tokens``), or ``context``
            (no position is left).
        prefill_seconds: For all tokens of the prompt but the last.
        decode_seconds: For ``steps`` steps.
        steps: How many steps chose a token; the end token counts.
    """

    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    stop: str
    prefill_seconds: float
    decode_seconds: float
    steps: int

    @property
    def seconds_per_token(self) -> float:
        """Time of a decode step; 0 if there was none."""
        return self.decode_seconds / self.steps if self.steps else 0.0


def generate(
    executable: DecodeStep,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    on_text: Callable[[str], object] | None = None,
) -> Generation:
    """Feed a prompt token by token, then decode greedily.

    Args:
        executable: A compiled decode graph of one step, or a generation graph, which is launched once for as many
            tokens as it holds. Rows of the caches that an earlier call wrote are overwritten before they are read, so
            it need not be reset.
        tokenizer: The model's.
        prompt: What to continue.
        max_new_tokens: The most tokens to add.
        on_text: Called with each piece of text as it becomes whole characters.

    Raises:
        InvalidInput: If the prompt is empty or longer than the context, or logits are not finite; then the first node
            whose output is not finite is named, and no token follows.
    """
    if max_new_tokens < 0:
        raise InvalidInput(f"max_new_tokens is {max_new_tokens}", hint="give 0 or more")
    context = _context(executable.graph)
    fed = prompt_tokens(tokenizer, prompt, context)
    start = time.perf_counter()
    for position, token in enumerate(fed[:-1]):
        _choose(executable, token, position, 1)
    prefilled = time.perf_counter()
    tokens: list[int] = []
    texts: list[str] = []
    stream = TextStream(tokenizer)
    stop = "length"
    choices = _choices(executable, fed, context, max_new_tokens)
    for token in itertools.islice(choices, max_new_tokens):
        if token in tokenizer.ends:
            stop = "end"
            break
        tokens.append(token)
        texts.append(stream.push(token))
        if texts[-1] and on_text is not None:
            on_text(texts[-1])
    seconds = time.perf_counter() - prefilled
    if stop == "length" and len(tokens) < max_new_tokens:
        stop = "context"
    steps = len(tokens) + (stop == "end")
    return Generation(tuple(fed), tuple(tokens), "".join(texts), stop, prefilled - start, seconds, steps)


def prompt_tokens(tokenizer: Tokenizer, prompt: str, context: int) -> list[int]:
    """The tokens of a prompt, one at least.

    Raises:
        InvalidInput: If there are none, or more than the context has positions.
    """
    tokens = tokenizer.encode(prompt)
    if not tokens:
        raise InvalidInput("the prompt is empty", hint="give at least one word: this model has no token to begin with")
    if len(tokens) > context:
        message = f"the prompt has {len(tokens)} tokens, but the context has {context} positions"
        raise InvalidInput(message, hint="shorten the prompt, or build the graph with a larger context")
    return tokens


def _choices(executable: DecodeStep, prompt_tokens: list[int], context: int, wanted: int) -> Iterator[int]:
    """The greedy choice after the prompt, then after each choice, as long as there are positions."""
    token, position = prompt_tokens[-1], len(prompt_tokens) - 1
    while position < context:
        chosen = _choose(executable, token, position, wanted)
        yield from chosen
        token, position, wanted = chosen[-1], position + len(chosen), wanted - len(chosen)


def _choose(executable: DecodeStep, token: int, position: int, wanted: int) -> list[int]:
    """What one replay chooses: one token, or up to as many as wanted."""
    inputs = {"token": np.array([token], np.int32), "position": np.array([position], np.int32)}
    loop = executable.graph.buffers.get(_LOOP)
    if loop is not None:
        inputs["limit"] = np.array([min(wanted, loop.count)], np.int32)
    outputs = executable.run(inputs)
    require_finite_logits(executable, inputs, outputs)
    chosen = outputs["next_token"][:1] if loop is None else outputs[_LOOP][: outputs["count"][0]]
    return [int(token) for token in chosen]


def _context(graph: Graph) -> int:
    position = graph.buffers.get("position")
    if position is None or position.bounds is None or not {"next_token", _LOOP} & set(graph.buffers):
        hint = "build it with decode_graph or generation_graph"
        raise InvalidInput(f"graph '{graph.name}' is not a decode step", hint=hint)
    return position.bounds[1] + 1
