"""Fixtures that several packages' tests share: a real database in a temp folder, an app, people, the real base."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlmodel import Session

from curator.services import accounts, projects
from curator.settings import Settings
from db.models import Project, User
from db.session import connect, migrate, new_session


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", min_examples=4)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an empty, migrated database, made once."""
    file = tmp_path_factory.mktemp("db") / "empty.db"
    engine = connect(f"sqlite:///{file}")
    migrate(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return file.read_bytes()


@pytest.fixture
def engine(settings: Settings, migrated: bytes) -> Iterator[Engine]:
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "curator.db").write_bytes(migrated)
    engine = connect(settings.url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A writing session. Commit before anything else (a client, a worker) is to see what was written."""
    with new_session(engine, write=True) as session:
        yield session


@pytest.fixture
def project(session: Session) -> Project:
    project = projects.create(session, "Ferry line", slug="ferry")
    session.commit()
    return project


@pytest.fixture
def make_user(session: Session, project: Project) -> Callable[..., User]:
    def make(login: str = "noor", role: str = "reviewer", password: str = "", *, admin: bool = False) -> User:
        user = accounts.create_user(session, login, login.title(), password, admin=admin)
        if role:
            accounts.set_role(session, user, project, role)
        session.commit()
        return user

    return make


@pytest.fixture
def app(settings: Settings, engine: Engine) -> Iterator[Flask]:
    from curator.app import create_app

    app = create_app(settings)
    app.testing = True
    app.config["WTF_CSRF_ENABLED"] = False
    yield app
    app.extensions["curator.engine"].dispose()


@pytest.fixture
def sign_in(app: Flask, session: Session) -> Callable[[User], FlaskClient]:
    """Answer a test client that is signed in as this person."""

    def as_user(user: User) -> FlaskClient:
        from curator.security import COOKIE

        client = app.test_client()
        client.set_cookie(COOKIE, accounts.sign_in(session, user))
        session.commit()
        return client

    return as_user


@pytest.fixture(scope="session")
def real_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real SmolLM2-135M-Instruct GGUF: from CURATOR_TEST_BASE, else fetched once into a cache folder."""
    given = os.environ.get("CURATOR_TEST_BASE")
    if given:
        return Path(given)
    from trainer.bases import fetch_embedded

    return fetch_embedded(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "curator-tests")
