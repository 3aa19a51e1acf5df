"""Base models: one GGUF file each, known by its content, and the places they come from.

files          what a file says about itself, and its digest
embedded       SmolLM2-135M-Instruct out of a Python package, so that a machine without a hub account can begin
ollama_store   what Ollama has on this machine, used where it lies
hub            GGUF files of a repository on Hugging Face or a mirror of it
folder         full-precision weights beside a GGUF file
curated        small models worth trying

Imports no torch: the web app describes and fetches bases too.
"""

from trainer.bases.embedded import fetch_embedded, find_embedded
from trainer.bases.files import BaseFile, describe, digest

__all__ = ["BaseFile", "describe", "digest", "fetch_embedded", "find_embedded"]
