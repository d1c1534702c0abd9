"""A small byte-pair vocabulary in CLIP's layout: 256 bytes, 256 bytes ending a word, merges, start, end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from explorer.errors import TrainingError
from recipe.commands import stage_command

FOLDER = "data/tokenizer"
"""In the work folder: learned once, by `prepare`, since a model is worth nothing under another's numbers."""
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 16


def train_tokenizer(texts: list[str], merges: int = 1000) -> Any:
    """A transformers CLIPTokenizer of at most 514 + `merges` tokens and length 16, with merges learned from `texts`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    # The trainer counts every symbol that it starts from, so the size is a ceiling and the merges are cut after. Of
    # merges that are as frequent it takes those of the first symbols, and numbers symbols that end a word as it meets
    # them, in another order in every process: as special tokens they have their numbers before it begins.
    ends = [f"{c}</w>" for c in alphabet]
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        special_tokens=ends,
        show_progress=False,
    )
    trained.train_from_iterator(sorted(texts), trainer)
    learnt: Any = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]][:merges]
    words = alphabet + ends + ["".join(pair) for pair in learnt]
    vocab = {word: i for i, word in enumerate([*dict.fromkeys(words), START, END])}
    return CLIPTokenizer(vocab=vocab, merges=learnt, model_max_length=LENGTH)


def load_tokenizer(work: Path) -> Any:
    """What `prepare` learned.

    Raises:
        TrainingError: when `prepare` has not run, or ran before it learned the tokens.
    """
    from transformers import CLIPTokenizer

    folder = work / FOLDER
    if not (folder / "tokenizer.json").is_file():  # without it transformers makes a tokenizer of two tokens
        raise TrainingError(f"{folder} holds no tokenizer; run `{stage_command('prepare', work)}`.")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def numbering(tokenizer: Any) -> str:
    """A short name for the tokens and their numbers."""
    words = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    return hashlib.sha256(words).hexdigest()[:12]


def encode(tokenizer: Any, texts: list[str]) -> Any:
    """int64 [N, 16]: start, tokens, end, padded with the end token."""
    batch = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return batch.input_ids
