"""What models end a text, a turn or a message with."""

from __future__ import annotations

__all__ = ["END_TEXTS", "GGUF_END_ROLES"]

GGUF_END_ROLES = ("eot", "eom")
"""Roles besides ``eos`` whose tokens end generation: ``tokenizer.ggml.ROLE_token_id``."""

END_TEXTS = frozenset(
    {
        "</s>",
        "<EOT>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<eos>",
        "<turn|>",
        "<|calls|>",
        "<|call|>",
        "<|end_of_text|>",
        "<|endoftext|>",
        "<|end|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|flush|>",
        "<|im_end|>",
        "<|return|>",
        "<|tool_response>",
        "[EOS]",
        "[EOT]",
        "[e~[",
        "_<EOT>",
        # Of models that fill in the middle: padding, and where another file or repository begins.
        "<PAD>",
        "<REPO>",
        "<fim-pad>",
        "<fim-repo>",
        "<fim_pad>",
        "<reponame>",
        "<|file_sep|>",
        "<|fim_pad|>",
        "<|fim_repo|>",
        "<|repo_name|>",
        "[PAD]",
    }
)
"""Texts of tokens that end generation: those that llama.cpp knows (``llama_vocab_is_eog``), asked one by one."""
