"""Words that pages translate by name, `_(run.state)`, and sentences kept in constants: marked here for the catalogues.

Whoever adds a state, a column or such a sentence adds it here; tests/curator/test_translations.py compares.
"""

from __future__ import annotations

from trainer.recipe import GROUPS, settings


def N_(word: str) -> str:  # noqa: N802  gettext's own name for a word that is marked here and translated elsewhere
    """Answer the word as it is; its name marks it for tools/translations.py."""
    return word


STATES = (
    N_("new"), N_("accepted"), N_("rejected"), N_("unsure"),
    N_("queued"), N_("running"), N_("finished"), N_("failed"), N_("cancelled"),
    N_("waiting"), N_("importing"), N_("done"),
    N_("built"), N_("published"), N_("in service"), N_("retired"),
)  # fmt: skip
VERDICTS = (N_("accept"), N_("reject"), N_("skip"), N_("unsure"))
STAGES = (N_("plan"), N_("train"), N_("convert"), N_("evaluate"), N_("types"))
CHECKS = (N_("held_out"), N_("pins"), N_("stops"), N_("differs"), N_("parity"), N_("rounding"), N_("canaries"))
COLUMNS = (
    N_("question"), N_("answer"), N_("passages"), N_("reference"), N_("external_id"), N_("conversation"),
    N_("happened_at"), N_("thumbs"), N_("comment"), N_("latency"), N_("score"), N_("language"), N_("system"),
)  # fmt: skip
REMARKS = (
    N_("No example is held out while training, so training cannot tell when to stop early."),
    N_("No example is kept for the exam, so the new model cannot be compared with the old one on it."),
    N_(
        "Some examples hold control signs of a chat template, such as im_start. They are kept as they are, but "
        "may teach the model to stop or to change roles in the middle of an answer."
    ),
)
FILES = (
    N_("The file is a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV."),
    N_("The file is compressed. Unpack it first."),
    N_("The file is a PDF, not a log. Export the conversations as JSON Lines or CSV."),
    N_("The file is a database, not a log. Export the conversations as JSON Lines or CSV."),
    N_("The file is in Parquet format. Save it as JSON Lines or CSV."),
    N_("The file is an old Excel or Word document. Save it as CSV."),
    N_("The file is not text. Export the conversations as JSON Lines, JSON or CSV."),
    N_("The file's characters are neither UTF-8, UTF-16 nor GB18030. Save it as UTF-8 and try again."),
)
SKIPS = (
    N_("The record has no question."),
    N_("The record has no answer."),
    N_("The record holds a NUL character, which is no text."),
    N_("A text of the record is longer than 4 million characters."),
    N_("The record holds half a character (a lone surrogate)."),
    N_("The conversation has no answer by the assistant."),
    N_("The conversation has no question before the answer."),
    N_("The conversation calls tools; only plain questions and answers can be reviewed."),
    N_("A turn of the conversation is not an object with a speaker and a text."),
    N_("A turn of the conversation does not say who spoke."),
    N_("A turn of the conversation holds an image or another part that is not text."),
    N_("The record is longer than 8 MB; such a long one is not an exchange a person could review."),
    N_("The line holds bytes that are not text in the file's encoding."),
    N_("The record names the same key twice, so it is unclear which value is meant."),
    N_("The record holds a number with thousands of digits."),
    N_("The record is nested too deeply."),
    N_("The line is JSON, but not an object with named fields."),
)
FORM_FIELDS = {
    "login": N_("sign-in name"), "name": N_("name"), "password": N_("password"), "file": N_("file"), "role": N_("role"),
    "question": N_("question"), "answer": N_("answer"), "comment": N_("comment"), "reason": N_("reason"),
    "reasons": N_("reasons"), "rating": N_("rating"), "verdict": N_("decision"), "winner": N_("vote"),
    "kind": N_("kind"), "guidelines": N_("guidelines"), "system_prompt": N_("system prompt"),
    "prompt_style": N_("prompt style"), "user_id": N_("person"),
    "snapshot_id": N_("dataset"), "new": N_("new model"), "old": N_("old model"), "disabled": N_("shut out"),
    "type": N_("number type"), "origin": N_("repository"), "path": N_("path"), "folder": N_("folder"),
    "reviews_needed": N_("reviews needed"), "request_id": N_("form"), "person": N_("person"), "records": N_("records"),
    "include_personal": N_("personal data"), "single_keys": N_("single keys"), "gold": N_("measure"),
}  # fmt: skip
RECIPE_FIELDS = {setting.name: setting.label for setting in settings()}  # marked by tools/translations.py
RECIPE = (*RECIPE_FIELDS.values(), *(setting.sentence for setting in settings()), *GROUPS)
MESSAGES = (
    N_("Stopped by a person. Nothing that is in service has changed."),
    N_("Stopped before it began."),
    N_("The trainer ended without all of its files. Start the run again."),
    N_(
        "The machine ran out of memory while teaching. Close other programs, or teach with smaller batches "
        "(batch_size) or shorter examples (max_length). The model in service is unchanged."
    ),
    N_("The work stopped without a word each time it was tried. The machine may be short of memory."),
)
ADMISSIONS = (
    N_("It could not be checked: the embedded runtime is not installed on this machine."),
    N_("It could not be checked: the embedded runtime did not answer. Check it again."),
    N_("The file is not the one that was added: its content has changed. Put the right file back, or add this one."),
    N_(
        "The library that teaches cannot read this model from its GGUF file. Add the full-precision folder that "
        "the file was made from, or choose another model."
    ),
    N_("The embedded runtime cannot load this model. Choose another one, or another file of it."),
    N_(
        "The library that teaches cuts text into other pieces than the model in use, so what it learns would be "
        "lost. Choose another file of this model, or another model."
    ),
    N_(
        "This model counts places in long texts in a way (rope scaling) that the library that teaches does not "
        "read from a GGUF file, so it would be taught as another model than the one in use. Add the "
        "full-precision folder that the file was made from."
    ),
    N_(
        "The library that teaches understands this GGUF file differently than the runtime that answers, so what "
        "it learns would not fit. Add the full-precision folder that the file was made from, or choose another "
        "model."
    ),
    N_(
        "The full-precision folder does not fit the GGUF file: they answer differently. Choose the folder that "
        "this very file was made from."
    ),
)
HUB = (
    N_("A repository is named like owner/name. Copy it from the address of its page."),
    N_(
        "The model hub cannot be reached from this machine. Check the network, or download the file elsewhere "
        "and add it by its path."
    ),
    N_("The download broke off. What has arrived is kept, and the next try goes on from there."),
    N_(
        "The model hub answered with something else, such as a sign-in page of your network. Open its page in a "
        "browser on this machine, then try again."
    ),
    N_("The model hub has no public repository of that name. Look at its spelling."),
    N_(
        "The makers of this model want their licence to be accepted first. Accept it on the model's page, "
        "download the file there and add it by its path."
    ),
    N_("The model hub does not take more questions just now. Try again later."),
    N_("This repository has no GGUF file in one piece. Look for one whose name ends in GGUF."),
    N_("The model hub does not say what the file's content should be, so it cannot be trusted. Choose another."),
    N_("What arrived is not the file that the model hub announced, so it was thrown away. Try again."),
    N_("The disk has too little room for this file. Make room, then try again; what has arrived is kept."),
)
OLLAMA = (
    N_("Its entry in Ollama's store is damaged. Pull it again with Ollama."),
    N_("It is not kept as one GGUF file, so it cannot be taught."),
    N_("It is a model with an adapter on top. Choose the model that the adapter belongs to."),
    N_("Its file is missing from Ollama's store. Pull it again with Ollama."),
    N_("Its file may not be read by the user that Curator runs as. Give that user the right to read it."),
    N_("Its file is damaged or no whole model. Pull it again with Ollama."),
    N_("It has no chat template, so it cannot hold a conversation. Choose an instruct or chat model."),
    N_("It is a mixture of experts, whose experts cannot be taught here. Choose a dense model of its family."),
    N_(
        "Models of its kind cannot be taught here. Choose one of the Llama, Qwen, Gemma, Phi, Granite or SmolLM "
        "families."
    ),
)
FOLDERS = (
    N_("There is no such folder on this machine."),
    N_("The folder has no readable config.json. Choose the folder that holds the model's original files."),
    N_(
        "The folder holds weights in a format that can carry programs (.bin, .pt or the like). Move these files "
        "away; only .safetensors files are read."
    ),
    N_("The model wants to run program code of its own (auto_map). That is never done here; choose another model."),
    N_("The folder has no weights: model.safetensors, or the files that model.safetensors.index.json names."),
    N_("A .safetensors file in the folder is damaged or was not downloaded to its end. Download it again."),
    N_(
        "The folder is that of another model: its kind, layers, width or vocabulary is not the GGUF file's. "
        "Choose the folder that the GGUF file was made from."
    ),
)
WORDS = frozenset(
    (
        *STATES,
        *VERDICTS,
        *STAGES,
        *CHECKS,
        *COLUMNS,
        *RECIPE,
        *REMARKS,
        *FILES,
        *SKIPS,
        *FORM_FIELDS.values(),
        *MESSAGES,
        *ADMISSIONS,
        *HUB,
        *OLLAMA,
        *FOLDERS,
    )
)
