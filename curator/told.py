"""What the trainer and its runtimes tell, as sentences that pages can translate.

The trainer knows no languages and writes plain English with the figures in it. Here each of its sentences stands once
with names in place of figures; a stored one is found again by its words. tests/curator/test_translations.py reads the
trainer's source and fails for a sentence that is missing.
"""

from __future__ import annotations

import re
from functools import cache

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
        "accelerate is asked to spread the base over the cards (FSDP), which is not offered. Leave --use_fsdp away; "
        "for a base that is too big for a card set base_bits to 4."
    ),
    N_("Memory is short, so activations are computed twice: learning takes about a third longer."),
    N_(
        "Training may need %(needed)s GB of memory and %(free)s GB are free. "
        "Close other programs or choose a smaller base."
    ),
    N_("%(count)s examples lost passages to fit into %(limit)s tokens."),
    N_("%(count)s examples are longer than %(limit)s tokens and are left out."),
    N_("Answers end with %(token)s, which the base's file does not name as its end token."),
    N_("There is no test question, so the questions that chose the best moment are used; they flatter a little."),
    # of a server to compare with, trainer/runtimes/openai.py; the others that it tells name no side of a battle
    N_("%(host)s refuses the token. Check CURATOR_COMPARE_TOKEN."),
    N_("%(host)s takes no more questions just now. Try again in a moment."),
    N_("%(host)s has a problem of its own (status %(status)s). Try again later."),
    N_("%(host)s does not answer. Check CURATOR_COMPARE_URL, or try again later; nothing is lost."),
    N_("%(host)s has gone silent. Try again; if it stays so, look after that server."),
    N_(
        "What answers at %(address)s does not speak OpenAI's language (status %(status)s). The address is "
        "what stands before /chat/completions and mostly ends in /v1; check CURATOR_COMPARE_URL."
    ),
    N_("The address to compare with cannot be used. %(why)s"),
    # of a llama-server that somebody started, trainer/runtimes/llama_server.py and recognise.py
    N_("%(server)s does not answer. Start it, or correct CURATOR_LLAMA_SERVER_URL; nothing is lost."),
    N_("%(server)s has gone silent. Try again; if it stays so, start it again."),
    N_("%(server)s refuses the key. Check CURATOR_LLAMA_SERVER_TOKEN."),
    N_("%(server)s is still loading its model. Ask again in a moment."),
    N_("%(server)s does not answer as llama.cpp does (status %(status)s). Check its address."),
    N_(
        "%(server)s serves %(names)s, not '%(tag)s'. Start it with the command on the version's page, then load the "
        "version again."
    ),
    N_(
        "%(server)s has no '%(tag)s', but %(names)s. Put the file into its folder as %(file)s.gguf, or tell Curator "
        "that folder (CURATOR_LLAMA_SERVER_MODELS); then load the version again."
    ),
    N_(
        "%(server)s serves another model under the name '%(tag)s': it has %(theirs)s weights in %(size)s bytes, and "
        "%(file)s has %(ours)s in %(own)s. Check which file it was started with."
    ),
    N_(
        "%(server)s would put questions to '%(tag)s' otherwise than it was taught. Start it without a chat template "
        "of its own, and with --jinja."
    ),
    N_(
        "%(server)s splits text into other tokens than those '%(tag)s' was taught with. Check which file it was "
        "started with."
    ),
    N_(
        "%(server)s does not answer as '%(tag)s' did when it was examined: %(alike)s of %(asked)s answers begin more "
        "like it than like the untaught base. Check which file it was started with."
    ),
    N_(
        "%(server)s was started with one model, so it looks into no folder. Start it with --models-dir %(folder)s, or "
        "take CURATOR_LLAMA_SERVER_MODELS away."
    ),
    N_(
        "%(server)s does not see %(tag)s.gguf in %(folder)s. Check that it was started with that folder as "
        "--models-dir and may read it; one from before May 2026 has to be started again for each version."
    ),
    N_("%(server)s could not load '%(tag)s' (code %(code)s). Look at its log; the machine may be short of memory."),
    N_(
        "%(folder)s cannot be written (%(error)s). Make room there, or give Curator's user the right to write; then "
        "load the version again."
    ),
)


def split(sentence: str) -> tuple[str, dict[str, str]]:
    """Answer the sentence with names in place of figures, and the figures; one that is not known stays as it is."""
    for known in SENTENCES:
        if found := _pattern(known).fullmatch(sentence):
            return known, found.groupdict()
    return sentence, {}


@cache
def _pattern(sentence: str) -> re.Pattern[str]:
    """Answer what a sentence looks like with figures in it."""
    words = PLACE.split(sentence)  # text and names in turn
    return re.compile("".join(f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(words)), re.S)
