"""What runtimes tell of a failure, and what is told of loading a version; told.py says what that is for."""

from __future__ import annotations

from curator.words import N_

SENTENCES = (
    N_("%(where)s has no model %(name)s. Publish it first, or choose another one."),
    N_(
        "%(name)s cannot be a model's name. Use at most 80 letters, digits, dots, dashes and underscores, then a "
        "colon and as many again if you like."
    ),
    N_("The embedded runtime is not installed. Install it: pip install 'curator[llamacpp]'."),
    N_("%(where)s is not running. Is `curator up` running? Start it, then try again."),
    N_(
        "%(name)s was not loaded within %(minutes)s minutes. The machine may be short of memory. Close other "
        "programs and try again."
    ),
    N_("%(where)s is being restarted. Ask again in a moment."),
    N_("%(where)s has gone silent. Ask again; if it stays so, restart Curator."),
    N_("%(where)s stopped in the middle of its answer and is being started again. Ask again in a moment."),
    N_("%(where)s has just been replaced. Ask again in a moment."),
    N_("%(where)s could not do that. llama.cpp says: %(said)s"),
    N_(
        "The question is too long: %(tokens)s tokens, and the model was loaded for %(most)s. Ask less, or start a"
        " new conversation."
    ),
    N_("The model has been silent for 30 seconds. Ask again in a moment."),
    N_("Ollama's address is not set. Set it, or use the embedded runtime."),
    N_("There is no runtime %(name)s. Choose one of %(known)s."),
    N_("It is loaded as one merged file, because it could not be loaded as an adapter: %(reason)s"),
    N_(
        "Ollama %(ollama)s takes no adapters any more. This version, which is one, still answers. Load it again, under "
        "“Details”, and it becomes one merged file."
    ),
    N_("With it, Ollama answers just as with the base alone."),
    N_("%(tag)s was loaded but says nothing. It stays unpublished; teach again."),
    N_(
        "Ollama %(version)s is too old to be safe: a damaged model file can make it give away other "
        "people's chats (CVE-2026-7482). Update Ollama to 0.35.0 or later."
    ),
    N_("%(file)s has no chat template, so nobody knows how to ask it. Teach another base."),
    N_("Ollama created %(tag)s but not from the file that was sent. Publish it again."),
    N_("Ollama created %(tag)s but not from this base and this adapter alone."),
    N_(
        "Ollama stopped creating %(tag)s at %(status)s without an error. Publish it again; "
        "nothing that is in use has changed."
    ),
    N_(
        "Ollama would put questions to %(tag)s otherwise than it was taught. Update Ollama to 0.35.0 "
        "or later, or use the embedded runtime."
    ),
    N_("Ollama %(version)s takes no adapters; 0.30.0 to 0.34.0 do."),
    N_("This version has no adapter file."),
    N_("%(name)s is not kept as a GGUF file in Ollama, so no adapter can be put on it."),
    N_("%(name)s has an adapter in Ollama already, and both would count."),
    N_("%(name)s is of another architecture in Ollama than the base that was taught."),
    N_("%(name)s is not the base that was taught: its weights are others in Ollama."),
    N_("Ollama broke the answer off. Ask again; if it stays so, look at Ollama's log."),
    N_("Ollama's address cannot be used. %(error)s"),
    N_("Ollama at %(address)s refuses the token. Check it in the settings."),
    N_("%(address)s sends us on to another address, which is not followed. Set the real one."),
    N_("Ollama is busy: it has too many questions at once. Try again in a moment."),
    N_("What answers at %(address)s is not Ollama, or Ollama is broken (status %(status)s)."),
    N_("Ollama does not answer at %(address)s. Start it, or correct its address; nothing is lost."),
    N_("Ollama at %(address)s has gone silent. Try again; if it stays so, restart Ollama."),
    N_("Ollama at %(address)s broke off. Try again; if it stays so, look at Ollama's log."),
    N_("Ollama at %(address)s broke off. Try again; if it stays so, look at Ollama's log. %(error)s"),
    N_("Ollama's disk is full. Make room on its machine, or retire old versions, then load it again. (%(said)s)"),
    N_("The file was damaged on its way to Ollama, or changed meanwhile. Load it again. (%(said)s)"),
    N_("This Ollama cannot use an adapter. It says: %(said)s"),
    N_("Ollama's engine ended when it was to load the model. Ollama's log says why. It says: %(said)s"),
    N_("Ollama could not do that. It says: %(said)s"),
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
        "%(server)s serves %(names)s, not %(tag)s. Start it with the command on the version's page, then load the "
        "version again."
    ),
    N_(
        "%(server)s has no %(tag)s, but %(names)s. Put the file into its folder as %(file)s.gguf, or tell Curator "
        "that folder (CURATOR_LLAMA_SERVER_MODELS); then load the version again."
    ),
    N_(
        "%(server)s serves another model under the name %(tag)s: it has %(theirs)s weights in %(size)s bytes, and "
        "%(file)s has %(ours)s in %(own)s. Check which file it was started with."
    ),
    N_(
        "%(server)s would put questions to %(tag)s otherwise than it was taught. Start it without a chat template "
        "of its own, and with --jinja."
    ),
    N_(
        "%(server)s splits text into other tokens than those %(tag)s was taught with. Check which file it was "
        "started with."
    ),
    N_(
        "%(server)s does not answer as %(tag)s did when it was examined: %(alike)s of %(asked)s answers begin more "
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
    N_("%(server)s could not load %(tag)s (code %(code)s). Look at its log; the machine may be short of memory."),
    N_(
        "%(folder)s cannot be written (%(error)s). Make room there, or give Curator's user the right to write; then "
        "load the version again."
    ),
    N_("What answers at %(address)s is not llama.cpp's llama-server, or is too old. Update it."),
    N_("llama-server's address cannot be used. %(why)s"),
    N_("llama-server's address is not set. Set it, or use the embedded runtime."),
    N_(
        "%(server)s cannot give %(tag)s a second name. Tell Curator its folder (CURATOR_LLAMA_SERVER_MODELS), or name "
        "the model in its presets."
    ),
    N_("%(server)s has not loaded %(tag)s within %(minutes)s minutes."),
    N_("%(host)s could not do that. It says: %(said)s"),
    N_("%(host)s broke off. Try again; if it stays so, look after that server."),
    N_("%(host)s has no model %(name)s. Choose another one."),
    N_("%(host)s answered with nothing. A model that thinks first may have used up its %(tokens)s tokens."),
)
