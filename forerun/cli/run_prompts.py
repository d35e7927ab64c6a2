"""``forerun run`` with several prompts: one step for a ragged batch answers all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun.cli.console import print_json, print_plain, result_console, write_result
from forerun.cli.decoding import DecodePlan, MatrixStorage, MatrixType, compiled
from forerun.cli.errors import Status
from forerun.cli.files import new_run_folder
from forerun.cli.models import model_path
from forerun.cli.progress import progress
from forerun.cli.subject import Choice
from forerun.cli.tables import pass_details, pass_table, promise_sentence, time_sentence
from forerun.report.words import duration, plural

if TYPE_CHECKING:
    from forerun.frontends.generate_together import Answers
    from forerun.frontends.ragged_step import RaggedCapacity
    from forerun.passes.infra.summary import Summary

__all__ = ["MOST_PROMPTS", "PromptsRequest", "require_prompts", "run_prompts"]

MOST_PROMPTS = 64
_MOST_ROWS = 1024
"""Tokens that a step feeds; longer prompts are fed in chunks of that size."""
_CTAS = {True: 132, False: 8}
"""CTAs that share the attention, on a GPU and elsewhere."""


@dataclass(frozen=True)
class PromptsRequest:
    """What was asked for; the plan's types are those of :func:`require_prompts`."""

    choice: Choice
    prompts: Sequence[str]
    plan: DecodePlan
    dump: str | None
    most: int


def require_prompts(
    prompts: Sequence[str], dtype: MatrixStorage | None, cache: MatrixType | None
) -> tuple[MatrixStorage, MatrixType]:
    """Check what can be checked before the model is there; the types of matrices and of KV rows, which are one.

    Raises:
        InvalidInput: If there are too many prompts, or a type is not one that tensor cores multiply.
    """
    from forerun.support.diagnostics import InvalidInput

    if len(prompts) > MOST_PROMPTS:
        raise InvalidInput(f"{len(prompts)} prompts are too many at once", hint=f"at most {MOST_PROMPTS}")
    chosen = str(dtype or cache or MatrixType.F16)
    for option, given in (("--dtype", dtype), ("--kv-dtype", cache)):
        if given in (MatrixStorage.F32, MatrixStorage.QUANTISED):
            hint = f"bf16 or f16; {given} goes with one --prompt"
            raise InvalidInput(f"{option} {given} is not supported for several prompts", hint=hint)
        if given is not None and given != chosen:
            hint = "leave --kv-dtype out, or give the same type twice"
            raise InvalidInput("several prompts have one type for matrices and KV rows", hint=hint)
    return MatrixStorage(chosen), MatrixType(chosen)


def run_prompts(request: PromptsRequest, *, talks: bool, as_json: bool, verbose: bool) -> Status:
    """Compile a step for all prompts, and answer them.

    Raises:
        InvalidInput: If a prompt is empty or longer than the context, or the model is not there.
    """
    from forerun.frontends.generate_together import generate_together
    from forerun.frontends.llama import LlamaModel
    from forerun.frontends.ragged_step import ragged_step_graph, require_heads_for_gpu

    model = LlamaModel.open(model_path(str(request.choice.name), shown=talks))
    plan = request.plan
    if plan.target.name == "cuda":
        require_heads_for_gpu(model.config)
    capacity = _capacity(request, model)
    folder = new_run_folder(request.choice.label) if request.dump is None else Path(request.dump)
    with progress("reading weights", shown=talks) as told:
        graph = ragged_step_graph(model.config, capacity, dtype=plan.dtype)
        executable = compiled(graph, plan, str(folder), model.weights_as(plan.dtype), told)
    with executable, progress(f"answering {plural(len(request.prompts), 'prompt')}", shown=talks):
        answers = generate_together(executable, model.tokenizer, request.prompts, request.most)
    if as_json:
        print_json(_as_json(request, answers, executable.summary, folder))
        return Status.OK
    for prompt, answer in zip(request.prompts, answers.answers, strict=True):
        write_result(f"{prompt if talks else ''}{answer.text}\n")
    if talks:
        _print_account(plan, answers, executable.summary, folder, verbose=verbose)
    return Status.OK


def _capacity(request: PromptsRequest, model: Any) -> RaggedCapacity:
    """Room for the prompts, all in one step if they have no more tokens than a step has rows."""
    from forerun.frontends.decode import DEFAULT_CONTEXT
    from forerun.frontends.generate_together import all_prompt_tokens
    from forerun.frontends.ragged_step import RaggedCapacity

    context = request.plan.context or min(model.config.context_length, DEFAULT_CONTEXT)
    count = len(request.prompts)
    capacity = RaggedCapacity(count, _MOST_ROWS, context, ctas=_CTAS[request.plan.target.name == "cuda"])
    capacity.require_valid(model.config)
    tokens = sum(map(len, all_prompt_tokens(model.tokenizer, request.prompts, context)))
    return RaggedCapacity(count, min(_MOST_ROWS, max(tokens, count)), context, ctas=capacity.ctas)


def _print_account(plan: DecodePlan, answers: Answers, summary: Summary, folder: Path, *, verbose: bool) -> None:
    console = result_console()
    console.print()
    console.print(pass_table(summary))
    console.print()
    fed = sum(len(answer.prompt_tokens) for answer in answers.answers)
    steps = plural(answers.prefill_steps, "step")
    lines = [
        time_sentence(summary),
        promise_sentence(summary),
        f"{plural(len(answers.answers), 'answer')} on {plan.target}: {plural(fed, 'token')} of prompts in {steps} and "
        f"{duration(answers.prefill_seconds)}; then {answers.tokens_per_second:.1f} tokens/s, "
        f"{plural(answers.decoded, 'token')} in {plural(answers.decode_steps, 'step')}",
    ]
    if verbose:
        for number, answer in enumerate(answers.answers, 1):
            told = " ".join(map(str, answer.tokens))
            lines.append(f"answer {number} stopped because of: {answer.stop}; tokens: {told}")
        lines += pass_details(summary)
    for line in (*lines, f"dumps: {folder}", f"report: {folder / 'index.html'}"):
        print_plain(console, line)


def _as_json(request: PromptsRequest, answers: Answers, summary: Summary, folder: Path) -> dict[str, Any]:
    return {
        "model": request.choice.name,
        "target": str(request.plan.target),
        "dtype": str(request.plan.dtype),
        "answers": [
            {
                "prompt": prompt,
                "text": answer.text,
                "prompt_tokens": list(answer.prompt_tokens),
                "tokens": list(answer.tokens),
                "stop": answer.stop,
            }
            for prompt, answer in zip(request.prompts, answers.answers, strict=True)
        ],
        "prefill_seconds": answers.prefill_seconds,
        "prefill_steps": answers.prefill_steps,
        "decode_seconds": answers.decode_seconds,
        "decode_steps": answers.decode_steps,
        "tokens_per_second": answers.tokens_per_second,
        "dump": str(folder),
        "summary": summary.to_json(),
    }
