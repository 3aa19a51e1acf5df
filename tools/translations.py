"""Bring the catalogues up to date: `python tools/translations.py`.

Gathers every marked sentence, merges it into each language's .po (untranslated ones stay empty and fail a test),
and compiles the .mo files that Flask-Babel reads.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from curator.words import RECIPE

ROOT = Path(__file__).parent.parent
TRANSLATIONS = ROOT / "curator" / "translations"
LANGUAGES = ("zh_Hans",)
METHODS = [("**.py", "python"), ("**.html", "jinja2")]
ERRORS = ("CuratorError", "NotFound", "Invalid", "Conflict", "Forbidden", "Unavailable", "TooMany", "Stale")
KEYWORDS = {
    "_": None, "gettext": None, "ngettext": (1, 2), "lazy_gettext": None, "N_": None,
    **dict.fromkeys(ERRORS), "Skipped": (2,),
}  # fmt: skip


def gather() -> Catalog:
    """Answer every sentence that templates and code mark for translation, and those about the trainer's parameters."""
    catalog = Catalog(project="Curator", charset="utf-8")
    for folder in ("curator", "templates"):
        for file, line, message, comments, context in extract_from_dir(
            ROOT / folder, METHODS, keywords=KEYWORDS, strip_comment_tags=True
        ):
            if message and message != ("", ""):
                catalog.add(message, None, [(f"{folder}/{file}", line)], auto_comments=comments, context=context)
    for sentence in RECIPE:
        catalog.add(sentence, None, [("trainer/recipe.py", 1)])
    return catalog


def catalogue(language: str) -> Catalog:
    """Read a language's catalogue, empty when it has none yet."""
    file = TRANSLATIONS / language / "LC_MESSAGES" / "messages.po"
    return read_po(BytesIO(file.read_bytes()), locale=language) if file.exists() else Catalog(locale=language)


def compiled(catalog: Catalog) -> bytes:
    """Answer the .mo file of a catalogue."""
    out = BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def untranslated(catalog: Catalog) -> list[str]:
    """List the sentences that a catalogue has no words for."""
    return [
        str(message.id)
        for message in catalog
        if message.id and not (all(message.string) if isinstance(message.string, tuple) else message.string)
    ]


def main() -> None:
    """Merge and compile every language."""
    sentences = gather()
    for language in LANGUAGES:
        catalog = catalogue(language)
        catalog.update(sentences, no_fuzzy_matching=True)
        catalog.obsolete.clear()
        catalog.header_comment = "# Curator in Simplified Chinese. Made and merged by tools/translations.py."
        catalog.fuzzy = False
        folder = TRANSLATIONS / language / "LC_MESSAGES"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "messages.po").open("wb") as file:
            write_po(file, catalog, width=110, omit_header=False, include_lineno=False, sort_output=True)
        (folder / "messages.mo").write_bytes(compiled(catalog))
        missing = len(untranslated(catalog))
        print(f"{language}: {len(catalog)} sentences, {missing} not translated yet")


if __name__ == "__main__":
    main()
