"""Models for ``external_zoo.py`` whose kernels Inductor writes: three of ``transformers``, and our own in torch.

Each function captures graphs one after the other; the first is the denominator of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from external_common import Program, torch_graph, written_by

__all__ = [
    "encoder",
    "llama_compiled",
    "llama_eager",
    "llama_plain",
    "llama_without_cudnn",
    "small_llama",
    "torch_llama",
    "vision",
]


def _captured(
    session: Any, name: str, step: Callable[[], Any], constants: list[Any], refresh: Callable[[int], None], kept: Any
) -> Program:
    graph, results = torch_graph(step)
    live = session.graph(graph)
    return Program(name, live, graph.replay, refresh, results, (graph, step, kept), written_by(live, constants))


def _generator(seed: int) -> Any:
    import torch

    return torch.Generator("cuda").manual_seed(seed)


def _llama(session: Any, name: str, shape: dict[str, Any], position: int, context: int, *, compiled: bool) -> Program:
    """A decode step of a Llama of ``transformers`` with random weights, over a static cache."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    config = LlamaConfig(tie_word_embeddings=True, max_position_embeddings=4096, head_dim=64, **shape)
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    cache = StaticCache(config=config, max_cache_len=context)
    token, place = torch.tensor([[11]], device="cuda"), torch.tensor([position], device="cuda")
    if compiled:
        model.forward = torch.compile(model.forward, fullgraph=True, dynamic=False)

    def step() -> Any:
        out = model(
            input_ids=token, past_key_values=cache, cache_position=place, position_ids=place[None], use_cache=True
        )
        return out.logits, out.logits.argmax(-1)

    def refresh(seed: int) -> None:
        token.random_(0, config.vocab_size, generator=_generator(seed))
        for layer in cache.layers:
            for value in vars(layer).values():
                if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16 and value.ndim == 4:
                    value.normal_(generator=_generator(seed + value.shape[1]))
                elif isinstance(value, torch.Tensor) and not value.is_floating_point() and value.numel() == 1:
                    value.fill_(position)  # its counter of tokens, which would run off the end

    return _captured(session, name, step, list(model.parameters()), refresh, (model, cache))


SMOLLM2 = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152,
}  # fmt: skip
LLAMA_1B = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip


def small_llama(session: Any) -> Iterator[Program]:
    """A decode step with the shapes of SmolLM2-135M, tuned by coordinate descent."""
    import torch._inductor.config as inductor

    inductor.coordinate_descent_tuning = True
    yield _llama(session, "SmolLM2-like Llama", SMOLLM2, 127, 256, compiled=True)


def llama_compiled(session: Any) -> Iterator[Program]:
    """A decode step of Llama-3.2-1B shapes at position 511, tuned by coordinate descent; then with ``enable_pdl``."""
    import torch
    import torch._inductor.config as inductor

    inductor.coordinate_descent_tuning = True
    for name, with_pdl in (("torch.compile", False), ("torch, enable_pdl", True)):
        torch._dynamo.reset()
        inductor.triton.enable_pdl = with_pdl
        one = _llama(session, name, LLAMA_1B, 511, 1024, compiled=True)
        one.rewritten = not with_pdl
        yield one
    inductor.triton.enable_pdl = False


def llama_without_cudnn(session: Any) -> Iterator[Program]:
    """The same without cuDNN's attention, whose results vary: every step can be compared bit by bit."""
    import torch
    import torch._inductor.config as inductor

    torch.backends.cuda.enable_cudnn_sdp(False)
    inductor.coordinate_descent_tuning = True
    yield _llama(session, "torch.compile without cuDNN", LLAMA_1B, 511, 1024, compiled=True)


def llama_plain(session: Any) -> Iterator[Program]:
    """The same, not tuned."""
    yield _llama(session, "torch.compile, not tuned", LLAMA_1B, 511, 1024, compiled=True)


def llama_eager(session: Any) -> Iterator[Program]:
    """The same, not compiled."""
    yield _llama(session, "eager", LLAMA_1B, 511, 1024, compiled=False)


def vision(session: Any) -> Iterator[Program]:
    """Four blocks of ViT-B/16 on one image, with random weights."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = ViTModel(ViTConfig(num_hidden_layers=4), add_pooling_layer=False).to(torch.bfloat16).eval()
    image = torch.randn(1, 3, 224, 224, dtype=torch.bfloat16, device="cuda")
    compiled = torch.compile(model, fullgraph=True, dynamic=False)

    def step() -> Any:
        return compiled(pixel_values=image).last_hidden_state

    def refresh(seed: int) -> None:
        image.normal_(generator=_generator(seed))

    yield _captured(session, "ViT-B/16, 4 blocks", step, list(model.parameters()), refresh, (model, compiled))


def encoder(session: Any) -> Iterator[Program]:
    """Four layers of BERT-base on 128 tokens, with random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=4)
    with torch.device("cuda"):
        model = BertModel(config, add_pooling_layer=False).to(torch.bfloat16).eval()
    tokens = torch.randint(0, config.vocab_size, (1, 128), device="cuda")
    compiled = torch.compile(model, fullgraph=True, dynamic=False)

    def step() -> Any:
        return compiled(input_ids=tokens).last_hidden_state

    def refresh(seed: int) -> None:
        tokens.random_(0, config.vocab_size, generator=_generator(seed))

    yield _captured(session, "BERT-base, 4 layers", step, list(model.parameters()), refresh, (model, compiled))


def torch_llama(session: Any) -> Iterator[Program]:
    """Our own torch model of Llama-3.2-1B at position 511: with Inductor's ``enable_pdl``, then without."""
    import torch
    import torch._inductor.config as inductor
    from torch_llama import DecodeModel, draw_weights

    from forerun.frontends.llama_config import shape_named

    inductor.coordinate_descent_tuning = True
    config = shape_named("llama-3.2-1b")
    weights = draw_weights(config)
    token, place = torch.tensor([11], device="cuda"), torch.tensor([511], device="cuda")

    def refresh(model: Any, seed: int) -> None:
        token.random_(0, config.vocabulary, generator=_generator(seed))
        for name, cache in model.named_buffers():
            if name.endswith("_cache"):
                cache.normal_(generator=_generator(seed + len(name)))

    for name, with_pdl in (("torch, enable_pdl", True), ("torch, without", False)):
        torch._dynamo.reset()
        inductor.triton.enable_pdl = with_pdl
        model = DecodeModel(config, weights, 1024)
        compiled = torch.compile(model, fullgraph=True, dynamic=False)
        constants = [*model.parameters(), model.cosine, model.sine, model.mask]

        def step(compiled: Any = compiled) -> Any:
            return compiled(token, place)

        def own(seed: int, model: Any = model) -> None:
            refresh(model, seed)

        yield _captured(session, name, step, constants, own, (model, compiled))
    inductor.triton.enable_pdl = False
