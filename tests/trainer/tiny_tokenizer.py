"""The tokenizer of the tiny models: byte-level BPE with a few merges, and a chatml chat template."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from gguf import GGUFWriter

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXT = (
    "system user assistant What is the return policy for this product? You can return it within thirty days of the "
    "delivery with the receipt. How do I reset the password of my account? Open the settings page and choose reset. "
    "The answer is in the manual. There are two ways to do that: the first one and the other one. Please contact us "
    "when the order has not arrived. Invoices are sent by email at the end of each month. Yes, no, and I do not know. "
    "Where can they find more information about their contract, their address and their payments?"
)


def add_tokenizer(writer: GGUFWriter, vocab: int) -> None:
    """Add the tokenizer: three special tokens, 256 bytes, then as many merges as the vocabulary has room for."""
    alphabet = list(byte_letters().values())
    merges = learn_merges(vocab - len(SPECIAL) - len(alphabet))
    tokens = [*SPECIAL, *alphabet, *(a + b for a, b in merges)]
    tokens += [f"[unused{i}]" for i in range(vocab - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (vocab - len(SPECIAL)))
    writer.add_token_merges([f"{a} {b}" for a, b in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def byte_letters() -> dict[int, str]:
    """Spell each byte as a printable letter, as GPT-2 does."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def learn_merges(count: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from TEXT: the most frequent pair first, ties by spelling."""
    words = Counter(tuple(("Ġ" if i else "") + word) for i, word in enumerate(TEXT.split(" ")))
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged: Counter[tuple[str, ...]] = Counter()
        for word, times in words.items():
            merged[_joined(word, best)] += times
        words = merged
    return merges


def _joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for letter in word:
        if out and (out[-1], letter) == pair:
            out[-1] += letter
        else:
            out.append(letter)
    return tuple(out)
