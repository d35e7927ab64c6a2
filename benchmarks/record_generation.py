"""Records which graphs a generation of ``transformers`` asks for, step by step: benchmarks/generation_trace.json.

A tiny random Llama (2 layers) generates for batches of requests, as ``generate`` does it: a prefill with the longest
prompt of the batch, then one token a step, with a ``DynamicCache`` that is concatenated, so allocated again, in each
layer and step, until each request has drawn its end token. Each call of the model is seen by a ``TorchDispatchMode``:
its nodes are the operations but for views. Two calls have the same operations, or not; of those that have the same, it
is counted how many nodes get other sizes, strides or numbers than in the call before, and how many also other memory.

Needs torch and transformers, on a CPU: addresses are those of its allocator. Run from the repository's root:
``python -m benchmarks.record_generation``. Recorded with torch 2.13.0 and transformers 5.24.0.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BATCHES, MOST_TOKENS, VOCABULARY = 24, 400, 160
FILE = Path(__file__).with_name("generation_trace.json")

Node = tuple[str, tuple[object, ...], tuple[int, ...]]
"""An operation: its name; sizes, strides and numbers; addresses."""


class Recorder(TorchDispatchMode):
    """The operations of one call of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            leaves = tree_leaves((args, kwargs, result))
            tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            sizes = [(tuple(one.shape), one.stride()) for one in tensors]
            numbers = [leaf for leaf in leaves if isinstance(leaf, int | float | bool)]
            places = tuple(one.data_ptr() for one in tensors)
            self.nodes.append((str(function), (*sizes, *numbers), places))
        return result


def generated() -> list[tuple[int, int, list[Node]]]:
    """The calls of the model: requests in the batch, tokens in the cache after it, and nodes."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    chooser = random.Random(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    forward, calls = model.forward, []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        with Recorder() as recorder:
            outputs = forward(*args, **kwargs)
        calls.append((outputs.logits.shape[0], outputs.past_key_values.get_seq_length(), recorder.nodes))
        return outputs

    model.forward = recorded
    for _ in range(BATCHES):
        lengths = [chooser.choice((16, 32, 64, 100, 200)) for _ in range(chooser.randint(1, 4))]
        prompt = torch.randint(3, VOCABULARY, (len(lengths), max(lengths)))
        mask = torch.ones_like(prompt)
        for row, length in enumerate(lengths):  # padded on the left, as for decoders
            mask[row, : max(lengths) - length] = 0
        model.generate(
            prompt, attention_mask=mask, max_new_tokens=MOST_TOKENS, do_sample=True, top_k=0,
        )  # fmt: skip
    return calls


def trace(calls: list[tuple[int, int, list[Node]]]) -> list[list[int]]:
    """Rows: operations, batch, cached tokens, nodes, nodes of other sizes, nodes that changed at all."""
    kinds: dict[tuple[str, ...], int] = {}
    before: dict[int, list[Node]] = {}
    rows = []
    for batch, cached, nodes in calls:
        kind = kinds.setdefault(tuple(node[0] for node in nodes), len(kinds))
        old = before.get(kind)
        sizes = places = len(nodes)
        if old is not None:
            sizes = sum(one[1] != other[1] for one, other in zip(old, nodes, strict=True))
            places = sum(one[1:] != other[1:] for one, other in zip(old, nodes, strict=True))
        before[kind] = nodes
        rows.append([kind, batch, cached, len(nodes), sizes, places])
    return rows


if __name__ == "__main__":
    found = trace(generated())
    about = {
        "made by": "benchmarks/record_generation.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "columns": ["operations", "batch", "cached", "nodes", "other_sizes", "changed"],
        "steps": found,
    }
    rows = ",\n".join(json.dumps(row) for row in found)
    FILE.write_text(json.dumps({**about, "steps": 0}, indent=1).replace('"steps": 0', f'"steps": [\n{rows}\n]') + "\n")
    print(f"{len(found)} steps, {len({row[0] for row in found})} lists of operations", file=sys.stderr)
