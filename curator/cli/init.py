"""`curator init`."""

from __future__ import annotations

from pathlib import Path

import click

from curator.cli._context import home_option, settings_for
from curator.services import bases, sample
from db.session import connect, migrate, open_session
from trainer.bases import fetch_embedded, find_embedded


@click.command()
@click.option("--sample", "with_sample", is_flag=True, help="Load the sample project as well.")
@click.option("--base", type=click.Path(path_type=Path, dir_okay=False), help="GGUF file to teach, not the default.")
@home_option
def init(with_sample: bool, base: Path | None, home: Path | None) -> None:
    """Prepare a home folder: database, key, base model. Doing it again changes nothing."""
    settings = settings_for(home)
    settings.make_home()
    settings.signing_key()
    engine = connect(settings.url)
    migrate(engine)
    if base is None:
        if find_embedded(settings.home) is None:
            click.echo("Fetching the base model (about 100 MB, once) …")
        base = fetch_embedded(settings.home)
    with open_session(engine, write=True) as session:
        known = bases.register(session, base)
    click.echo(f"Base: {known.name}")
    if with_sample:
        project = sample.load(engine, settings, known)
        click.echo(f"Sample project: {project.name}")
    click.echo(f"Ready in {settings.home}. Start with: curator up")
