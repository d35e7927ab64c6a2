"""Llama-3.2-1B shapes on a GPU against an f32 PyTorch model: relative L2 of the logits at several positions.

The weights are drawn on the GPU in f32. Ours are the same, rounded to bf16. Two references: the rounded weights (what
our kernels add to the error), and the weights as drawn (what a user sees in all).
"""

from __future__ import annotations

import argparse

import torch
from common import Metric, write_result
from torch_llama import draw_weights, prefill

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import shape_named
from forerun.ir.types import DType

POSITIONS = (0, 160, 511, 2047)


def our_logits(config, weights, tokens, positions, target):
    """Feed all tokens through the decode graph; the logits at some positions."""
    given = {name: w.to(torch.bfloat16).contiguous() if w.ndim == 2 else w for name, w in weights.items()}
    graph = decode_graph(config, context=len(tokens), dtype=DType.BF16, splits=16, argmax_parts=128)
    found = []
    with forerun.compile(graph, target, "exact", weights=given) as executable:
        for position, token in enumerate(tokens.tolist()):
            result = executable.run({"token": [token], "position": [position]})
            if position in positions:
                found.append(torch.from_numpy(result["logits"]).cuda())
    return torch.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama-3.2-1b")
    parser.add_argument("--target", default="cuda")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    config = shape_named(options.shape)
    weights = draw_weights(config)
    tokens = torch.randint(config.vocabulary, (POSITIONS[-1] + 1,), generator=torch.Generator().manual_seed(1))
    ours = our_logits(config, weights, tokens, POSITIONS, options.target)
    keep = torch.tensor(POSITIONS, device="cuda")
    rounded = {name: w.bfloat16().float() if w.ndim == 2 else w for name, w in weights.items()}
    metrics = {}
    for suffix, reference in (("", rounded), ("_unrounded", weights)):
        expected = prefill(config, reference, tokens.cuda(), keep)
        errors = ((ours - expected).norm(dim=1) / expected.norm(dim=1)).tolist()
        same = (ours.argmax(1) == expected.argmax(1)).sum().item()
        print(
            f"reference{suffix}: {dict(zip(POSITIONS, errors, strict=True))}, argmax equal at {same} of {len(errors)}"
        )
        metrics[f"llama_1b.logits_rel_l2{suffix}"] = Metric(max(errors), "ratio", min(errors), max(errors))
    write_result("llama_cuda", metrics)


if __name__ == "__main__":
    main()
