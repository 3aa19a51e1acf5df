"""What the admission test of a base can say, in the words of people."""

NO_RUNTIME = "It could not be checked: the embedded runtime is not installed on this machine."
NOT_ANSWERED = "It could not be checked: the embedded runtime did not answer. Check it again."
CHANGED = "The file is not the one that was added: its content has changed. Put the right file back, or add this one."
UNREADABLE = (
    "The library that teaches cannot read this model from its GGUF file. Add the full-precision folder that the file "
    "was made from, or choose another model."
)
NOT_SERVED = "The embedded runtime cannot load this model. Choose another one, or another file of it."
OTHER_TOKENS = (
    "The library that teaches cuts text into other pieces than the model in use, so what it learns would be lost. "
    "Choose another file of this model, or another model."
)
ROPE = (
    "This model counts places in long texts in a way (rope scaling) that the library that teaches does not read from a "
    "GGUF file, so it would be taught as another model than the one in use. Add the full-precision folder that the "
    "file was made from."
)
OTHER_WEIGHTS = (
    "The library that teaches understands this GGUF file differently than the runtime that answers, so what it learns "
    "would not fit. Add the full-precision folder that the file was made from, or choose another model."
)
OTHER_FOLDER = (
    "The full-precision folder does not fit the GGUF file: they answer differently. Choose the folder that this very "
    "file was made from."
)
SENTENCES = (
    NO_RUNTIME, NOT_ANSWERED, CHANGED, UNREADABLE, NOT_SERVED, OTHER_TOKENS, ROPE, OTHER_WEIGHTS, OTHER_FOLDER,
)  # fmt: skip
