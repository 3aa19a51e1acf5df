"""What the trainer tells of model files and adapters; told.py says what that is for."""

from __future__ import annotations

from curator.words import N_

SENTENCES = (
    N_("%(file)s is %(kind)s, not a whole model. Choose the model it belongs to."),
    N_("%(file)s is not a file but a folder or a device. Choose the .gguf file itself."),
    N_("%(file)s is a damaged GGUF file: %(problem)s. Copy or download it again."),
    N_("There is no file %(file)s. Choose another one."),
    N_(
        "%(file)s is one part of a model split into %(count)s files. Join them first with llama-gguf-split "
        "--merge, then use the joined file."
    ),
    N_("%(file)s is empty. Copy or download it again."),
    N_("%(file)s is not a GGUF file. Choose a model file that ends in .gguf."),
    N_("%(file)s is a GGUF file for big-endian machines. Turn it round with gguf-convert-endian."),
    N_(
        "%(file)s is a GGUF file of version %(version)s; versions 2 and 3 are known. Convert the model again with"
        " a current llama.cpp."
    ),
    N_(
        "%(file)s holds weights that are no numbers (NaN or infinity) in %(tensor)s. Such a model answers "
        "nonsense: train or convert it again."
    ),
    N_("%(file)s became shorter while it was read. Copy or download it again."),
    N_("%(file)s is not a model but of type %(type)s. Choose the base."),
    N_(
        "Adapters for the architecture %(architecture)s cannot be converted yet. Choose a base of one of these: "
        "%(known)s."
    ),
    N_("Two layers of the adapter have the same name in the GGUF file. Train it again."),
    N_(
        "The adapter changes %(tensor)s, which %(file)s does not have or which cannot be changed. It was probably"
        " trained on another base: choose that one."
    ),
    N_(
        "The adapter's update of %(tensor)s, %(high)s by %(wide)s, does not fit the base's %(expected)s. It was "
        "trained on another base: choose that one."
    ),
    N_("The adapter's %(module)s has rank %(rank)s and its settings say %(said)s. Copy it again."),
    N_("%(file)s does not say how many attention heads it has. Choose another base."),
    N_(
        "The adapter changes the layer %(module)s, which is unknown for the architecture %(architecture)s. It was"
        " trained on another kind of model: choose that base."
    ),
    N_("%(file)s does not say how many blocks it has. Choose another base."),
    N_("The adapter's rank or alpha pattern is not readable. Train it again."),
    N_("The update of %(tensor)s is too large for F16. Convert it to F32."),
    N_("The adapter is of type %(type)s, and only LORA can be converted. Train it again."),
    N_("The adapter's rank is below 1. Train it again."),
    N_("The adapter was started with %(start)s, which changes the base. Train it again without."),
    N_("The adapter is empty. Train it again."),
    N_("The adapter's %(key)s is of type %(type)s. Save it as F32, F16 or BF16."),
    N_("The folder %(folder)s has no adapter_config.json. Choose a PEFT adapter."),
    N_("The adapter's adapter_config.json is not readable. Train or copy it again."),
    N_("The adapter uses the option %(key)s, which is not known here. Train it again without."),
    N_("The folder %(folder)s has no %(file)s. Choose a PEFT adapter."),
    N_("The adapter's %(file)s is damaged. Train or copy it again."),
    N_("The adapter's %(key)s holds NaN or infinity: the training diverged. Train it again."),
    N_("The adapter has only one half of the pair for %(module)s. Train or copy it again."),
    N_("The adapter was trained on another base. Choose that one."),
    N_("The merged model would overwrite its base. Choose another name for it."),
    N_("%(file)s is not a LoRA adapter. Choose the file that a training run wrote."),
    N_("The adapter is for the architecture %(one)s and the base is %(other)s. Choose the base it was trained on."),
    N_("%(file)s has no usable alpha. Convert the adapter again."),
    N_("The base became shorter while %(tensor)s was read. Copy it again."),
    N_("%(file)s has the unexpected tensor %(tensor)s. Convert the adapter again."),
    N_("%(tensor)s is of type %(type)s. Convert the adapter again to F32."),
    N_("The merged weights of %(tensor)s are too large for F16. Choose Q8_0."),
    N_("%(tensor)s of the base is of type %(type)s, which cannot be changed."),
    N_("There is no tensor type %(type)s. Choose one of %(known)s."),
    N_("Weights of type %(type)s can be read but not written. Choose Q8_0 or F16."),
    N_(
        "Writing weights of type %(type)s needs the package libggml-python. Install it with pip install "
        "'curator[llamacpp]', or choose Q8_0 or F16."
    ),
    N_("Rows of %(width)s weights do not divide into the blocks of %(type)s."),
    N_("ggml wrote %(written)s bytes of type %(type)s where %(due)s were due."),
)
