"""A CLIP tokenizer (byte-level BPE, 77 tokens) that learned its merges from the portraits' captions."""

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
    """Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) in the form that CLIP uses."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # the trainer numbers word endings in the order of a hash map, which breaks ties; named first, they have an order
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        end_of_word_suffix="</w>",
        special_tokens=[f"{letter}</w>" for letter in alphabet],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*captions, *(WORDS_WORTH_A_TOKEN * 40)], trainer)
    return from_merges(*_vocabulary_and_merges(tokenizer, alphabet))


def _vocabulary_and_merges(tokenizer: Tokenizer, alphabet: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    learned = json.loads(tokenizer.to_str())["model"]
    pairs = [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in learned["merges"]]
    merges = [(left, right) for left, right in pairs]
    vocabulary = dict(learned["vocab"])
    for token in [f"{letter}</w>" for letter in alphabet] + [START, END]:
        vocabulary.setdefault(token, len(vocabulary))
    return vocabulary, merges


def from_merges(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> CLIPTokenizer:
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
