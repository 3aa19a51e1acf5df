"""Write docs/settings.md from the settings' own sentences: `python tools/settings_page.py`."""

from __future__ import annotations

from pathlib import Path

from curator.settings import SECRETS, Settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
FILES = ",\n".join(f"`CURATOR_{name.upper()}_FILE`" for name in SECRETS)
HEAD = f"""# Settings

Read from the environment. Secrets can also be read from a file:
{FILES}.

| variable | default | meaning |
|---|---|---|
"""


def page() -> str:
    """Answer the page as Markdown."""
    rows = [
        f"| `CURATOR_{name.upper()}` | {_shown(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return HEAD + "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    text = "" if value is None or value.__class__.__name__ == "SecretStr" else str(value)
    return f"`{text}`" if text else "empty"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
