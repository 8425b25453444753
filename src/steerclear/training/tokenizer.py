"""A CLIP tokenizer (byte-level BPE, 77 tokens) trained on the portraits' captions."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

VOCABULARY = 1000
LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS_WORTH_A_TOKEN = ("without", "no", "not", "mustache", "moustache", "low quality", "blurry", "eyeglasses")
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def learn(captions: Iterable[str]) -> CLIPTokenizer:
    """Train a byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) in CLIP's form."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # the trainer numbers word endings in hash map order, which decides ties; special tokens have a fixed order
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, end_of_word_suffix="</w>", special_tokens=[f"{letter}</w>" for letter in alphabet],
        initial_alphabet=alphabet, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([*captions, *(WORDS_WORTH_A_TOKEN * 40)], trainer)
    vocabulary, merges = _vocabulary_and_merges(tokenizer, alphabet)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def _vocabulary_and_merges(tokenizer: Tokenizer, alphabet: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    learned = json.loads(tokenizer.to_str())["model"]
    pairs = [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in learned["merges"]]
    merges = [(left, right) for left, right in pairs]
    vocabulary = dict(learned["vocab"])
    for token in [f"{letter}</w>" for letter in alphabet] + [START, END]:
        vocabulary.setdefault(token, len(vocabulary))
    return vocabulary, merges
