"""Examples and the base's own chat template become token ids, with the answer marked by position.

prompt = the template over all turns but the last, with the opening of an answer; full = the template over all turns.
The full text must continue the prompt, in text and in tokens; what comes after the prompt up to and including the
end-of-turn token is what the model is taught. Nothing is searched for, so no answer can be mistaken for a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from trainer.failures import TrainerFailure
from trainer.spec import Example, Message, TokenSpan

HISTOGRAM_BINS = 12
NO_THINKING: dict[str, Any] = {"enable_thinking": False}  # as the runtimes ask; templates that do not know it ignore it


@dataclass(frozen=True)
class Encoded:
    """One example as tokens; the model is taught ids[start:], whose last token ends the turn.

    `earlier` holds (start, end) of earlier answers that are taught as well.
    """

    id: str
    ids: tuple[int, ...]
    start: int
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def taught(self) -> tuple[tuple[int, int], ...]:
        return (*self.earlier, (self.start, len(self.ids)))

    @property
    def answer_tokens(self) -> int:
        return sum(end - start for start, end in self.taught)


class Encoder:
    """Turns messages into tokens exactly as the runtime will."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, add_bos: bool = False) -> None:
        self.tokenizer = tokenizer
        self.add_bos = add_bos
        self.controls = {str(t): i for i, t in tokenizer.added_tokens_decoder.items() if t.special and str(t)}
        longest_first = sorted(self.controls, key=len, reverse=True)
        self.control_pattern = (
            re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
        )
        self.bos = tokenizer.bos_token_id if isinstance(tokenizer.bos_token_id, int) else None

    def render(self, messages: Sequence[Message], *, opening: bool) -> str:
        """Answer the template's text; `opening` adds the beginning of an answer."""
        turns = [message.model_dump() for message in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opening, **NO_THINKING)
            )
        except jinja2.TemplateError as error:
            raise TrainerFailure(
                "input",
                f"The base's chat template does not take these messages ({error}). Its rules are the base's own.",
            ) from error

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Answer the tokens of a conversation that waits for an answer."""
        text, kept = self._shielded(messages)
        return self._with_bos(self._tokens(self.render(text, opening=True), kept))

    def example(self, example: Example, *, every_turn: bool = False) -> Encoded:
        """Encode one example, or raise TrainerFailure with the example's id in its sentence."""
        if example.messages[-1].role != "assistant" or not example.messages[-1].content.strip():
            raise TrainerFailure("input", f"Example {example.id} does not end with an answer. Edit or reject it.")
        turns, kept = self._shielded(example.messages)
        opened = self.render(turns[:-1], opening=True)
        whole = self.render(turns, opening=False)
        if not whole.startswith(opened):
            raise TrainerFailure(
                "base",
                "The base's chat template writes a conversation differently once it has an answer "
                f"(seen at example {example.id}), so training would not match use. Choose another base.",
            )
        prompt, full = self._tokens(opened, kept), self._tokens(whole, kept)
        if full[: len(prompt)] != prompt:
            # a token spans the border, as when an answer begins with a line break; use sees the prompt's own tokens
            full = prompt + self._tokens(whole[len(opened) :], kept)
            if self.tokenizer.decode(full) != self.tokenizer.decode(self._tokens(whole, kept)):
                raise TrainerFailure(
                    "input",
                    f"The answer of example {example.id} runs into its question when split into tokens. "
                    "Remove white space at its beginning.",
                )
        full = full[: self._end(example, full, len(prompt)) + 1]
        ids = self._with_bos(full)
        if self.bos is not None and ids[:2] == [self.bos, self.bos]:
            raise TrainerFailure(
                "base", "The base's template and its tokenizer both write the token that begins a text."
            )
        shift = len(ids) - len(full)
        earlier = self._earlier(example, turns, whole, full, kept) if every_turn else ()
        return Encoded(
            example.id, tuple(ids), len(prompt) + shift, tuple((start + shift, end + shift) for start, end in earlier)
        )

    def _earlier(
        self, example: Example, turns: list[Message], whole: str, full: list[int], kept: list[str]
    ) -> tuple[tuple[int, int], ...]:
        """Answer where the earlier answers stand, each up to and with the control token that ends it."""
        found: list[tuple[int, int]] = []
        ends = set(self.controls.values())
        for at, turn in enumerate(turns[:-1]):
            if turn.role != "assistant":
                continue
            opened = self.render(turns[:at], opening=True)
            start = self._tokens(opened, kept) if whole.startswith(opened) else [-1]
            end = next((i for i in range(len(start), len(full)) if full[i] in ends), 0)
            if full[: len(start)] != start or not end:
                raise TrainerFailure(
                    "base",
                    "The base's chat template writes earlier answers differently from the last one (seen at example "
                    f"{example.id}), so they cannot be taught. Teach the last answers only.",
                )
            found.append((len(start), end + 1))
        return tuple(found)

    def _end(self, example: Example, full: list[int], start: int) -> int:
        """Answer where the end-of-turn token stands: the last control token, with only white space behind it."""
        ends = set(self.controls.values())
        for at in range(len(full) - 1, start, -1):
            if full[at] in ends:
                if not str(self.tokenizer.decode(full[at + 1 :])).strip():
                    return at
                break
        raise TrainerFailure(
            "base",
            f"The base's chat template puts no end-of-turn token after an answer (seen at example {example.id}), "
            "so a model taught with it would never stop. Choose an instruct model with a complete template.",
        )

    def _with_bos(self, ids: list[int]) -> list[int]:
        return [self.bos, *ids] if self.add_bos and self.bos is not None and ids[:1] != [self.bos] else ids

    def _shielded(self, messages: Sequence[Message]) -> tuple[list[Message], list[str]]:
        """Replace control tokens that people wrote by placeholders, so the template's own can be told from them."""
        kept: list[str] = []
        if self.control_pattern is None or not any(self.control_pattern.search(m.content) for m in messages):
            return list(messages), kept

        def shield(match: re.Match[str]) -> str:
            kept.append(match.group())
            return f"\ue000{len(kept) - 1}\ue001"

        pattern = self.control_pattern
        return [Message(role=m.role, content=pattern.sub(shield, m.content)) for m in messages], kept

    def _tokens(self, text: str, kept: list[str]) -> list[int]:
        if not kept or self.control_pattern is None:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
        ids: list[int] = []
        for piece in self.control_pattern.split(text):
            if piece in self.controls:
                ids.append(self.controls[piece])
            elif piece:
                plain = re.sub("\ue000(\\d+)\ue001", lambda match: kept[int(match.group(1))], piece)
                ids += self.tokenizer(plain, add_special_tokens=False, split_special_tokens=True)["input_ids"]  # type: ignore[operator]
        return ids

    def spans(self, encoded: Encoded) -> list[TokenSpan]:
        """Show an example token by token; text that several tokens spell together is one span."""
        spans: list[TokenSpan] = []
        waiting: list[int] = []
        borders = {border for span in encoded.taught for border in span}
        for at, token in enumerate(encoded.ids):
            trained = any(start <= at < end for start, end in encoded.taught)
            waiting.append(token)
            text = str(self.tokenizer.decode(waiting))
            if "\ufffd" in text and at + 1 not in borders:
                continue
            spans.append(TokenSpan(text=text, trained=trained))
            waiting = []
        return spans


def histogram(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Count lengths in up to 12 bins of equal width; each is (upper edge, examples)."""
    if not lengths:
        return []
    width = max(1, -(-max(lengths) // HISTOGRAM_BINS))
    last = -(-max(lengths) // width)
    return [(width * n, sum(width * (n - 1) < length <= width * n for length in lengths)) for n in range(1, last + 1)]
