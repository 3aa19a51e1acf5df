"""The house rules that a machine can check: arrows, file sizes, words of the house, vendored files."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tools import settings_page

ROOT = Path(__file__).parent.parent
OURS = [
    file
    for folder in ("curator", "trainer", "db", "tests", "bench", "tools")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in file.parts
]
TABLES = "db/models.py"  # one list of tables, in the order data flows
INLINE = ("http://", "https://", "//cdn", " onclick=", " style=", "hx-on", "<style")
CHAT_TEMPLATES = ("prompt.py", "ollama_prompt.py")  # a model's own: rendered in jinja2's sandbox, as transformers does
BANNED_CALLS = {"render_template_string", "from_string", "eval", "exec"}
BANNED_MODULES = {"pickle", "joblib", "dill", "shelve", "marshal"}


def test_the_arrows_point_one_way() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml")) == EXIT_STATUS_SUCCESS


def test_a_file_does_one_thing() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in OURS}
    assert {name: length for name, length in lengths.items() if length > 400 and name != TABLES} == {}


def test_importing_the_app_loads_no_torch() -> None:
    code = "import sys, curator.app, curator.cli, curator.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0  # noqa: S603  our own words


def test_nothing_unpickles_evaluates_or_shells_out() -> None:
    found: list[str] = []
    for file in OURS:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                found += [f"{file}: {name}" for name in names if name.split(".")[0] in BANNED_MODULES]
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "")
                method = getattr(node.func, "attr", "")
                as_text = method in ("render_template_string", "from_string") and file.name not in CHAT_TEMPLATES
                if name in BANNED_CALLS or as_text:
                    found.append(f"{file}:{node.lineno} {name or method}")
                found += [
                    f"{file}:{node.lineno} {keyword.arg}"
                    for keyword in node.keywords
                    if keyword.arg in ("shell", "trust_remote_code", "allow_pickle")
                    and getattr(keyword.value, "value", None) is True
                ]
    assert found == []


def test_vendored_files_are_the_published_ones() -> None:
    lock = json.loads((ROOT / "static/vendor/vendor.lock.json").read_text(encoding="utf-8"))
    files = {file.name for file in (ROOT / "static/vendor").iterdir() if file.suffix in (".js", ".css")}
    assert files == set(lock)
    for name, entry in lock.items():
        content = (ROOT / "static/vendor" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name


def test_templates_load_nothing_from_elsewhere_and_run_nothing_inline() -> None:
    found: list[str] = []
    for file in sorted((ROOT / "templates").rglob("*.html")):
        text = file.read_text(encoding="utf-8")
        found += [f"{file.relative_to(ROOT)}: {word}" for word in INLINE if word in text]
    assert found == []


def test_the_stylesheet_stays_small() -> None:
    assert (ROOT / "static/app.css").stat().st_size <= 25_000


def test_the_wheel_would_carry_templates_and_static_files() -> None:
    config = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'templates = "curator/templates"' in config
    assert 'static = "curator/static"' in config


def test_the_settings_page_says_what_the_settings_say() -> None:
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), "run: python tools/settings_page.py"
