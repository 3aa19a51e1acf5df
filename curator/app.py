"""Build the web app: wiring only."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from pathlib import Path

from flask import Flask, request, url_for
from flask_babel import Babel, get_locale

from curator import filters, security, web
from curator.settings import Settings, load_settings
from db.session import connect

NOUNS = (
    "auth", "home", "people", "projects", "sources", "records", "reviews", "snapshots", "runs", "number_types",
    "models", "arena", "adjudication", "calibration", "guidelines", "overview", "sessions", "views", "batches", "bases",
)  # fmt: skip
LANGUAGES = {"en": "English", "zh_Hans": "简体中文"}
HERE = Path(__file__).parent


def _beside(name: str) -> str:
    """Answer a folder of templates or static files: inside the wheel, or at the top of a checkout."""
    inside = HERE / name
    return str(inside if inside.exists() else HERE.parent / name)


def _language() -> str:
    chosen = request.cookies.get("language", "")
    if chosen in LANGUAGES:
        return chosen
    best = request.accept_languages.best_match(["en", "zh", "zh-hans", "zh-cn"], default="en")
    return "zh_Hans" if best.startswith("zh") else "en"


@cache
def _fingerprint(file: Path, _changed_at: float) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:10]


def _asset(name: str) -> str:
    """Answer a static file's address with its content's hash, so that a browser may keep it for ever."""
    file = Path(_beside("static")) / name
    return url_for("static", filename=name, v=_fingerprint(file, file.stat().st_mtime))


def create_app(settings: Settings | None = None) -> Flask:
    """Make the app for these settings, or for those of the environment."""
    settings = settings or load_settings()
    app = Flask(__name__, template_folder=_beside("templates"), static_folder=_beside("static"))
    app.config.update(
        SECRET_KEY=settings.signing_key(),
        MAX_CONTENT_LENGTH=settings.upload_limit_mb * 1024 * 1024,
        MAX_FORM_MEMORY_SIZE=16 * 1024 * 1024,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        SEND_FILE_MAX_AGE_DEFAULT=31_536_000,
        WTF_CSRF_TIME_LIMIT=None,
        BABEL_TRANSLATION_DIRECTORIES=str(HERE / "translations"),
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions["curator.settings"] = settings
    app.extensions["curator.engine"] = connect(settings.url)
    Babel(app, locale_selector=_language)
    security.install(app)
    web.install(app)
    filters.install(app)
    app.context_processor(
        lambda: {
            "asset": _asset,
            "language": str(get_locale() or "en"),
            "languages": LANGUAGES,
            "theme": request.cookies.get("theme", ""),
        }
    )
    for noun in NOUNS:
        app.register_blueprint(import_module(f"curator.routes.{noun}").bp)
    return app
