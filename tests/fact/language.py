"""A GPT-2 of random weights, small enough to be read by eye, as transformers saves one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

TEXTS = (
    "the cat sat on the mat and the dog sat on the log",
    "a dog and a cat sat on the mat; the mat was red",
    "the red dog saw the cat, the cat saw the red dog\nand the log was on the mat",
)
CONTEXT = 24


def save_tiny_gpt2(folder: Path, seed: int = 0) -> Path:
    """Save a model and its tokenizer, a byte-level BPE of few merges; return the folder."""
    reader = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    reader.pre_tokenizer, reader.decoder = byte_level, tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    reader.train_from_iterator(TEXTS * 4, trainer)
    end = "<|endoftext|>"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=reader, bos_token=end, eos_token=end
    ).save_pretrained(folder)
    config = transformers.GPT2Config(
        vocab_size=reader.get_vocab_size(), n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.GPT2LMHeadModel(config)
        for weights in model.parameters():  # as drawn, all tokens are about equally probable
            weights.data *= 8
    model.save_pretrained(folder)
    return folder


def own_model(folder: Path) -> Any:
    """Return the model as transformers itself loads it."""
    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
