"""Greedy answers to several prompts at once, with a compiled step for ragged batches.

All prompts are fed in one step if they fit, or in chunks; then each step chooses a token for every prompt whose answer
has not ended. A prompt is cut where it alone says, so an answer does not depend on the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forerun.frontends.generate import DecodeStep, prompt_tokens
from forerun.frontends.ragged_batch import Feed, batch_inputs, capacity_of
from forerun.frontends.ragged_step import RaggedCapacity
from forerun.frontends.tokenizer import TextStream, Tokenizer
from forerun.schedules.status import Finding, Status, raise_for
from forerun.support.diagnostics import ForerunError, InvalidInput

__all__ = ["Answer", "Answers", "all_prompt_tokens", "generate_together"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was generated for a prompt.

    Attributes:
        prompt_tokens: The tokens of the prompt.
        tokens: The new tokens; the one that ended the answer is left out.
        text: Their text.
        stop: Why it ended: ``end``, ``length`` or ``context``, as for
            :class:`~forerun.frontends.generate.Generation`.
    """

    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    stop: str


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers, in the order of the prompts, and how long they took.

    Attributes:
        answers: One a prompt.
        prefill_seconds: Of the steps that fed prompts; they chose the first token of each answer.
        prefill_steps: How many they were.
        decode_seconds: Of the other steps.
        decode_steps: How many they were.
        decoded: Tokens that the other steps chose; end tokens count.
    """

    answers: tuple[Answer, ...]
    prefill_seconds: float
    prefill_steps: int
    decode_seconds: float
    decode_steps: int
    decoded: int

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all answers together, after the first of each; 0 if there were none."""
        return self.decoded / self.decode_seconds if self.decoded else 0.0


def all_prompt_tokens(tokenizer: Tokenizer, prompts: Sequence[str], context: int) -> list[list[int]]:
    """The tokens of each prompt.

    Raises:
        InvalidInput: If there is no prompt, or one is empty or longer than the context; it says which.
    """
    if not prompts:
        raise InvalidInput("there is no prompt", hint="give at least one")
    found = []
    for number, prompt in enumerate(prompts, 1):
        try:
            found.append(prompt_tokens(tokenizer, prompt, context))
        except InvalidInput as error:
            raise InvalidInput(f"prompt {number} of {len(prompts)}: {error.message}", hint=error.hint) from error
    return found


def generate_together(
    executable: DecodeStep, tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int
) -> Answers:
    """Feed all prompts, then decode greedily until each answer has ended.

    Args:
        executable: A compiled graph of :func:`~forerun.frontends.ragged_step.ragged_step_graph`. It need not be reset:
            rows of the caches that an earlier call wrote are overwritten before they are read.
        tokenizer: The model's.
        prompts: What to continue; prompt ``n`` has slot ``n``.
        max_new_tokens: The most tokens to add to each.

    Raises:
        InvalidInput: If there are more prompts than the graph has room for, one is empty or longer than the context, or
            logits are not finite.
    """
    if max_new_tokens < 0:
        raise InvalidInput(f"max_new_tokens is {max_new_tokens}", hint="give 0 or more")
    capacity = capacity_of(executable.graph)
    if len(prompts) > capacity.requests:
        hint = "build the graph with a larger capacity, or give fewer prompts"
        raise InvalidInput(f"{len(prompts)} prompts do not fit a graph for {capacity.requests} requests", hint=hint)
    tokens = all_prompt_tokens(tokenizer, prompts, capacity.context)
    run = _Run(executable, capacity, [_Request(n, list(found), tokenizer) for n, found in enumerate(tokens)])
    return run.answers(max_new_tokens)


@dataclass
class _Request:
    """A prompt and its answer so far; ``fed`` counts the tokens whose rows are in the caches."""

    slot: int
    prompt: list[int]
    tokenizer: Tokenizer
    tokens: list[int] = field(default_factory=list)
    fed: int = 0
    stop: str = ""

    def next_feed(self, most: int) -> Feed:
        """The tokens that are not fed yet, ``most`` of them at most."""
        return Feed(self.slot, [*self.prompt, *self.tokens][self.fed : self.fed + most], self.fed)

    def take(self, feed: Feed, chosen: int, most: int, context: int) -> None:
        """Note that a step fed these tokens, and chose another one, which counts if it was the last that there was."""
        self.fed += len(feed.tokens)
        if self.fed < len(self.prompt) + len(self.tokens):
            return
        if chosen in self.tokenizer.ends:
            self.stop = "end"
            return
        self.tokens.append(chosen)
        if len(self.tokens) == most:
            self.stop = "length"
        elif self.fed == context:
            self.stop = "context"

    def answer(self) -> Answer:
        stream = TextStream(self.tokenizer)
        text = "".join(stream.push(token) for token in self.tokens)
        return Answer(tuple(self.prompt), tuple(self.tokens), text, self.stop)


@dataclass
class _Run:
    executable: DecodeStep
    capacity: RaggedCapacity
    requests: list[_Request]

    def answers(self, most: int) -> Answers:
        """Run all steps."""
        if most == 0:
            for request in self.requests:
                request.stop = "length"
        start, steps = time.perf_counter(), 0
        while waiting := [r for r in self.requests if not r.stop and r.fed < len(r.prompt)]:
            self._step(self._that_fit(waiting), most)
            steps += 1
        middle, firsts = time.perf_counter(), sum(len(r.tokens) + (r.stop == "end") for r in self.requests)
        decode_steps = 0
        while running := [r for r in self.requests if not r.stop]:
            self._step([(r, r.next_feed(1)) for r in running], most)
            decode_steps += 1
        end, chosen = time.perf_counter(), sum(len(r.tokens) + (r.stop == "end") for r in self.requests)
        found = tuple(request.answer() for request in self.requests)
        return Answers(found, middle - start, steps, end - middle, decode_steps, chosen - firsts)

    def _that_fit(self, waiting: list[_Request]) -> list[tuple[_Request, Feed]]:
        """The next chunk of each prompt, in order, as long as a step has rows for the whole chunk."""
        found, room = [], self.capacity.rows
        for request in waiting:
            feed = request.next_feed(self.capacity.rows)
            if len(feed.tokens) > room:
                break
            found.append((request, feed))
            room -= len(feed.tokens)
        return found

    def _step(self, batch: list[tuple[_Request, Feed]], most: int) -> None:
        outputs = self.executable.run(batch_inputs(self.capacity, [feed for _, feed in batch]))
        if int(outputs["answers"][0]) != len(batch):
            status, where = (int(word) for word in self.executable.read("attention.status"))
            raise_for(Finding(Status(status), where))
            raise ForerunError(f"the step has {outputs['answers'][0]} answers for {len(batch)} requests")
        for (request, feed), chosen, logits in zip(batch, outputs["next_token"], outputs["logits"], strict=False):
            if not np.isfinite(logits).all():
                count = int((~np.isfinite(logits)).sum())
                what = f"prompt {request.slot + 1}: {count} of {logits.size} logits after position "
                hint = "a type with more range may help (--dtype bf16), or the model's weights are damaged"
                raise InvalidInput(f"{what}{feed.past + len(feed.tokens) - 1} are not finite", hint=hint)
            request.take(feed, int(chosen), most, self.capacity.context)
