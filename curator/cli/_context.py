"""What every command uses: the home folder, its settings and its database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Engine, inspect
from sqlmodel import Session, col, select

from curator.errors import NotFound
from curator.settings import Settings, load_settings
from db.models import Project
from db.session import connect

F = TypeVar("F", bound=Callable[..., Any])


def home_option(command: F) -> F:
    """Add `--home`, the folder that holds everything."""
    text = "Folder that holds the database, runs, versions and backups.  [CURATOR_HOME, else ~/.curator]"
    return click.option("--home", type=click.Path(path_type=Path, file_okay=False), help=text)(command)


def settings_for(home: Path | None, **overrides: Any) -> Settings:  # any field of Settings
    """Read the settings; options given on the command line win over the environment."""
    given = {name: value for name, value in overrides.items() if value is not None}
    return load_settings(**({"home": home} if home else {}), **given)


def open_database(settings: Settings) -> Engine:
    """Open the home's database, or say that there is none yet."""
    if not settings.database_url and not (settings.home / "curator.db").exists():
        raise NotFound("There is no Curator in %(home)s yet. Make one: curator init", home=str(settings.home))
    engine = connect(settings.url)
    if not inspect(engine).has_table("project"):
        raise NotFound("The database in %(home)s is empty. Prepare it: curator init", home=str(settings.home))
    return engine


def project_named(session: Session, slug: str | None) -> Project:
    """Answer the project of that short name, or the only one there is."""
    if slug:
        found = session.exec(select(Project).where(Project.slug == slug)).first()
        if found is None:
            raise NotFound("There is no project %(slug)s.", slug=slug)
        return found
    projects = session.exec(select(Project).order_by(col(Project.id)).limit(2)).all()
    if len(projects) != 1:
        raise NotFound("Say which project you mean: --project SHORT-NAME")
    return projects[0]
