"""What Ollama is told of a model, as its API takes it and as people type it. One source, so that both are the same."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

import httpx

from trainer import net
from trainer.runtimes.base import Publication
from trainer.runtimes.llama_offer import beside

LLAMA_SERVER = "http://127.0.0.1:8080"  # its own default

MODELFILE, ADAPTER_MODELFILE = "Modelfile", "Modelfile.adapter"


@dataclass(frozen=True)
class ByHand:
    """What does by hand what Curator does: shell commands, to be typed in the version's folder."""

    ollama: str
    curl: str
    llama_server: str
    llama_adapter: str = ""  # empty where there is no adapter file


def create_body(publication: Publication, digest: str) -> net.Json:
    """Answer the body of /api/create for an uploaded file: the whole model, or the adapter that is put on a base."""
    uploaded = {file_of(publication): f"sha256:{digest}"}
    body: net.Json = {
        "model": publication.tag,
        **({"from": publication.on, "adapters": uploaded} if publication.on else {"files": uploaded}),
        "parameters": parameters(publication),
        "stream": True,
    }
    if publication.system is not None:
        body["system"] = publication.system
    if publication.template is not None:
        body["template"] = publication.template
    return body


def file_of(publication: Publication) -> str:
    """Answer which of a version's files goes into Ollama."""
    return "adapter.gguf" if publication.on else "model.gguf"


def parameters(publication: Publication) -> dict[str, Any]:
    """Answer what holds for whoever asks without saying otherwise, by Ollama's names."""
    found: dict[str, Any] = {"num_ctx": publication.context, "num_predict": publication.answer_tokens}
    return found | ({"stop": list(publication.stop)} if publication.stop else {})


def modelfile(publication: Publication) -> str:
    """Write the Modelfile for `ollama create NAME -f Modelfile`, beside the version's files."""
    lines = [f"FROM {publication.on}", "ADAPTER ./adapter.gguf"] if publication.on else ["FROM ./model.gguf"]
    if publication.template is not None:
        lines.append(f"TEMPLATE {_quoted(publication.template)}")
    if publication.system is not None:
        lines.append(f"SYSTEM {_quoted(publication.system)}")
    for key, value in parameters(publication).items():
        several = value if isinstance(value, list) else [value]
        lines += [f"PARAMETER {key} {_quoted(one) if isinstance(one, str) else one}" for one in several]
    return "\n".join(lines) + "\n"


def by_hand(
    publication: Publication,
    address: str,
    *,
    token: bool = False,
    server: str = LLAMA_SERVER,
    base_tag: str = "base",
) -> ByHand:
    """Write the commands that load a version. `token`: the server asks for one, which is read from $OLLAMA_TOKEN.

    `server` is where a llama-server is to answer. There the base goes by `base_tag`, and an adapter by its file's name.
    """
    tag, file = shlex.quote(publication.tag), file_of(publication)
    key = ' -H "Authorization: Bearer $OLLAMA_TOKEN"' if token else ""
    body = shlex.quote(json.dumps(create_body(publication, "@DIGEST@"), ensure_ascii=False))
    body = body.replace("@DIGEST@", """'"$DIGEST"'""")
    return ByHand(
        ollama=f"OLLAMA_HOST={address} ollama create {tag} -f {ADAPTER_MODELFILE if publication.on else MODELFILE}\n"
        f"OLLAMA_HOST={address} ollama run {tag}",
        curl="\n".join(
            (
                f"DIGEST=$(sha256sum {file} | cut -d ' ' -f 1)",
                f'curl -f{key} -T {file} -X POST "{address}/api/blobs/sha256:$DIGEST"',
                f"curl -f{key} {address}/api/create -d {body}",
            )
        ),
        llama_server=_llama_server(publication, server, f"-m model.gguf --alias {tag}"),
        llama_adapter=_with_adapter(publication, server, base_tag) if publication.adapter else "",
    )


def _llama_server(publication: Publication, server: str, model: str) -> str:
    url = httpx.URL(server)
    return (
        f"llama-server {model} --jinja -c {publication.context} -n {publication.answer_tokens} "
        f'--host {url.host} --port {url.port or 8080} --api-key "$KEY"'
    )


def _with_adapter(publication: Publication, server: str, base_tag: str) -> str:
    """Several versions can stand behind --lora, with commas between; who asks says which is meant."""
    file = f"{beside(publication.tag)}.gguf"
    model = f"-m {shlex.quote(str(publication.base))} --alias {base_tag} --lora {file} --lora-init-without-apply"
    return f"cp adapter.gguf {file}\n" + _llama_server(publication, server, model)


def _quoted(text: str) -> str:
    """Quote a value. Ollama's parser knows no escapes, so three quotes within the text are set apart by blanks."""
    return '"""' + text.replace('"""', '" " "') + ('"""' if not text.endswith('"') else ' """')
