"""Decode with SmolLM2, or with any Llama-architecture GGUF file: fetch, build the graph, compile, generate.

python examples/decode_smollm2.py "The capital of France is"
python examples/decode_smollm2.py "Once upon a time" --model path/to/model.gguf --new-tokens 40
"""

from __future__ import annotations

import argparse
import sys

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.fetch import fetch_smollm2
from forerun.frontends.generate import generate
from forerun.frontends.llama import LlamaModel
from forerun.support.diagnostics import ForerunError


def show(text: str) -> None:
    print(text, end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="greedy decode on the reference target")
    parser.add_argument("prompt", nargs="?", default="The capital of France is")
    parser.add_argument("--model", help="a GGUF file; by default SmolLM2, fetched once")
    parser.add_argument("--new-tokens", type=int, default=24)
    options = parser.parse_args()

    model = LlamaModel.open(options.model or fetch_smollm2())
    graph = decode_graph(model.config, context=min(256, model.config.context_length))
    print(f"{graph.name}: {len(graph)} nodes, {graph.count_dependencies()}")

    with forerun.compile(graph, target="reference", weights=model.weights) as executable:
        print(f"compiled: {len(executable.graph)} nodes, {executable.graph.count_dependencies()}")
        show(options.prompt)
        result = generate(executable, model.tokenizer, options.prompt, options.new_tokens, on_text=show)
    print(f"\n{len(result.tokens)} tokens, {1e3 * result.seconds_per_token:.1f} ms each; stopped by {result.stop}")


if __name__ == "__main__":
    try:
        main()
    except ForerunError as error:
        sys.exit(f"{error}")
