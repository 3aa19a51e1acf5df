"""What the trainer tells in a run's events and in the lines of its gate, as sentences that pages can translate.

The trainer knows no languages and writes plain English with the figures in it. Here each of its sentences stands once
with names in place of figures; stored ones are found again by their words, several in a row one after another.
tests/curator/test_translations.py reads the trainer's source and fails for a sentence that is missing.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from curator import told_files, told_runtimes
from curator.words import N_

PLACE = re.compile(r"%\((\w+)\)s")
SENTENCES = (
    N_(
        "Learning went out of control before step %(step)s: for %(steps)s steps the loss was far above where it began. "
        "Nothing was published. Start a new run with a lower learning rate than %(rate)s."
    ),
    N_(
        "Learning went out of control at step %(step)s: the loss is no longer a number. "
        "Nothing was published. Start a new run with a lower learning rate than %(rate)s."
    ),
    N_(
        "The machine ran out of memory. Close other programs, or choose a smaller base or shorter examples, "
        "and start the run again: it goes on from its last checkpoint."
    ),
    N_("The machine ran out of memory. Going on from the last checkpoint with less at once."),
    N_(
        "The disk is full or cannot be written. Free some space and start the run again: "
        "it goes on from its last checkpoint."
    ),
    N_(
        "The graphics card or its driver failed (%(error)s). Update the driver, or "
        "start Curator with CUDA_VISIBLE_DEVICES= (nothing behind it) to teach on the processor, and start the run "
        "again: it goes on from its last checkpoint."
    ),
    N_(
        "The trainer stopped at an error of its own (%(error)s). Its log holds the details; "
        "starting the run again goes on from the last checkpoint."
    ),
    N_(
        "%(file)s is not the base this run was made for: its content has changed. "
        "Put the right file back, or start a new run with this one."
    ),
    N_("%(file)s has no chat template, so it was not made for conversations. Choose an instruct model."),
    N_(
        "The full-precision folder of %(file)s cannot be loaded (%(error)s). "
        "Download it again, or take it off the base."
    ),
    N_(
        "%(file)s cannot be trained: the library transformers does not read its architecture from a GGUF file "
        "(%(error)s). Add the model's full-precision folder to the base, or choose another base, for instance one of "
        "the Llama, Qwen or Gemma family."
    ),
    N_(
        "%(file)s cannot be trained: the library transformers does not make its tokenizer from a GGUF file "
        "(%(error)s). Choose another base."
    ),
    N_(
        "The base's chat template puts no end-of-turn token after an answer (seen at example %(example)s), so a model "
        "taught with it would never stop. Choose an instruct model with a complete template."
    ),
    N_(
        "The base's chat template writes a conversation differently once it has an answer (seen at example "
        "%(example)s), so training would not match use. Choose another base."
    ),
    N_(
        "The base's chat template writes earlier answers differently from the last one (seen at example %(example)s), "
        "so they cannot be taught. Teach the last answers only."
    ),
    N_("The base's template and its tokenizer both write the token that begins a text."),
    N_("The base's chat template does not take these messages (%(error)s). Its rules are the base's own."),
    N_("The base's chat template ends answers in different ways. Choose another base."),
    N_("Example %(example)s does not end with an answer. Edit or reject it."),
    N_(
        "The answer of example %(example)s runs into its question when split into tokens. "
        "Remove white space at its beginning."
    ),
    N_(
        "%(count)s examples are longer than %(limit)s tokens: %(examples)s. "
        "Shorten them, raise the longest length, or let them be left out."
    ),
    N_("Example %(example)s has no second answer to prefer its own to. Freeze the preferences again."),
    N_(
        "Example %(example)s is an answer that people found bad, and %(method)s would teach it. Use kto, which learns "
        "from bad answers, or freeze the dataset again."
    ),
    N_(
        "There are %(good)s good and %(bad)s bad answers to learn from, and kto needs both. Judge more of the missing "
        "kind, then freeze the preferences again."
    ),
    N_("kto measures an answer against the others of its step, so a step needs 2 answers or more. Raise batch_size."),
    N_("The example %(example)s is there twice. Freeze the dataset again."),
    N_("Line %(number)s of %(file)s cannot be read (%(error)s). Put it right, or start a new run."),
    N_("The best checkpoint, of step %(step)s, is damaged. Start a new run."),
    N_("The adapter of version %(version)s is not in the run folder (start/). Start a new run."),
    N_(
        "Version %(version)s was taught with rank %(rank)s and other layers or another scale than "
        "this recipe asks for (rank %(asked)s). Use the same, or start from the base."
    ),
    N_("There is no adapter to convert yet. Train first."),
    N_("There is no %(file)s to evaluate yet. Train and convert first."),
    N_(
        "The recipe holds the base in 4 bits, and the library bitsandbytes is not installed here. Install "
        "'curator[qlora]', best on a machine with a graphics card, or set base_bits to 16."
    ),
    N_(
        "The recipe asks for %(processes)s processes, and this machine has %(cards)s graphics cards. "
        "Ask for at most as many, or leave it empty."
    ),
    N_(
        "%(processes)s processes are asked to teach together, and there is not a graphics card for each. "
        "Ask for as many processes as there are cards."
    ),
    N_(
        "The base is to be spread over the cards and to be held in 4 bits, which does not go together. Set base_bits "
        "to 16, or sharding to off and leave --use_fsdp away."
    ),
    N_("Memory is short, so activations are computed twice: learning takes about a third longer."),
    N_("Memory is short, so each card holds a share of the base; they wait for each other more often."),
    N_(
        "Training may need %(needed)s GB of memory and %(free)s GB are free. "
        "Close other programs or choose a smaller base."
    ),
    N_("%(count)s examples lost passages to fit into %(limit)s tokens."),
    N_("%(count)s examples are longer than %(limit)s tokens and are left out."),
    N_("Answers end with %(token)s, which the base's file does not name as its end token."),
    N_("There is no test question, so the questions that chose the best moment are used; they flatter a little."),
    N_("There is no question that was kept from learning, so nothing can be said about new questions."),
    N_(
        "Better on %(better)s, same on %(same)s, worse on %(worse)s of %(asked)s questions (%(old)s before, %(new)s "
        "now, in nats per word piece; within %(near)s counts as the same)."
    ),
    N_("%(right)s of %(all)s past corrections are right now, %(before)s were before."),
    N_("No past correction is pinned yet."),
    N_("%(stops)s of %(asked)s answers ended by themselves; at least 9 of 10 must."),
    N_("%(changed)s of %(asked)s answers are other than the untaught base's."),
    N_("The next word's likelihood moved altogether where it is served."),
    N_("The next word's likelihood moved by %(nats)s nats where it is served."),
    N_("%(same)s of %(all)s prompts become the same tokens in training and in use."),
    N_("With no weight rounded, what comes next differs by %(nats)s nats at most (%(limit)s is allowed)."),
    N_("It was not compared with no weight rounded."),
    N_(
        "As it is served, rounding included, it differs by %(nats)s (%(limit)s is allowed), for the likeliest word "
        "alone by %(top)s."
    ),
    N_("The merged file differs by %(nats)s (%(limit)s is allowed)."),
    N_("The merged file differs by %(nats)s."),
    N_("Not checked: the embedded runtime is not installed here."),
    N_("The embedded runtime could not be asked."),
    N_(
        "The merged file's taught layers are of type %(type)s: held-out loss %(loss)s, against %(new)s before rounding "
        "and %(old)s untaught; %(share)s of what was learnt is left."
    ),
    N_("A version of a type with more bits, made from the same run, keeps more; nothing is taught again."),
    N_(
        "%(kept)s of the %(before)s general questions that the base answers right are still right, %(lost)s were lost; "
        "of all %(asked)s, %(now)s are right now."
    ),
    N_(
        "Learnt from %(count)s %(material)s in %(time)s. On %(asked)s questions it never saw: better on "
        "%(better)s, same on %(same)s, worse on %(worse)s."
    ),
    N_("The files cannot be written: %(error)s. Make room on the disk, then try again."),
    N_("The file of base %(name)s is gone: %(path)s. Put it back or register it again."),
    N_("There is no %(file)s to measure yet. Train and convert first."),
    N_("No question was kept from learning, so nobody can tell what a number type keeps of the lesson."),
    N_("The rows of %(narrow)s of its %(all)s taught layers do not divide into blocks of this type."),
    N_("All taught layers of the base are of type %(type)s, which is listed."),
    N_("Rounded to this type the model's numbers run over, and it answers nothing."),
    *told_files.SENTENCES,
    *told_runtimes.SENTENCES,
)


TOLD_OF = (N_("approved answers"), N_("pairs of answers"), N_("judged answers"))
"""What stands in the place of %(material)s, as trainer.spec.MATERIAL names it."""


def split(sentence: str) -> tuple[str, dict[str, str]]:
    """Answer the sentence with names in place of figures, and the figures; one that is not known stays as it is."""
    for known in SENTENCES:
        if found := _pattern(known).fullmatch(sentence):
            return known, found.groupdict()
    return sentence, {}


@lru_cache(maxsize=1024)
def sentences(text: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """Answer each sentence of a text as `split` does; what comes after the last known one stays as it is."""
    found: list[tuple[str, dict[str, str]]] = []
    rest = text
    while rest:
        begins = [(known, match) for known in SENTENCES if (match := _opening(known).match(rest))]
        if not begins:
            return (*found, (rest, {})) if found else (split(text),)
        known, match = min(begins, key=_swallows)
        found.append((known, match.groupdict()))
        rest = rest[match.end() :].lstrip()
    return tuple(found)


def _swallows(begin: tuple[str, re.Match[str]]) -> tuple[int, int]:
    """Put those last that reach into the next sentence, or take words for figures."""
    return begin[1].end(), sum(map(len, begin[1].groups()))


@cache
def _pattern(sentence: str) -> re.Pattern[str]:
    """Answer what a sentence looks like with figures in it."""
    words = PLACE.split(sentence)  # text and names in turn
    return re.compile("".join(f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(words)), re.S)


@cache
def _opening(sentence: str) -> re.Pattern[str]:
    """Answer what a text that begins with a sentence looks like; one that ends in a figure goes on to the end."""
    end = r"\Z" if sentence.endswith(")s") else r"(?=\s|\Z)"
    return re.compile(_pattern(sentence).pattern + end, re.S)
