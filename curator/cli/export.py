"""`curator export`."""

from __future__ import annotations

from pathlib import Path

import click

from curator.cli._context import home_option, open_database, project_named, settings_for
from curator.exporters import EXPORTERS
from curator.services import exports, snapshots
from db.session import open_session


@click.command()
@click.argument("snapshot")
@click.option("--project", default=None, help="Short name of the project the snapshot belongs to.")
@click.option("--format", "exporter", type=click.Choice(list(EXPORTERS)), default="sharegpt", help="Dataset format.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for the files.")
@home_option
def export(snapshot: str, project: str | None, exporter: str, out: Path, home: Path | None) -> None:
    """Write the SNAPSHOT of that name as files for another training tool."""
    with open_session(open_database(settings_for(home))) as session:
        found = snapshots.get(session, project_named(session, project), snapshot)
        for file in exports.export(session, found, exporter, out):
            click.echo(file)
