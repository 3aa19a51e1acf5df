"""`curator backup`."""

from __future__ import annotations

from pathlib import Path

import click

from curator.cli._context import home_option, open_database, settings_for
from curator.services import backup as backups


@click.command()
@click.option("--keep", default=7, show_default=True, type=click.IntRange(min=1), help="How many copies stay.")
@home_option
def backup(keep: int, home: Path | None) -> None:
    """Write a checked copy of the database into the home's backups folder; works while Curator runs."""
    settings = settings_for(home)
    open_database(settings)
    click.echo(f"Backed up to {backups.make(settings, keep=keep)}")
