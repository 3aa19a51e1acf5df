"""`curator import`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Engine

from curator.cli._context import home_option, open_database, project_named, settings_for
from curator.errors import Invalid
from curator.importers import IMPORTERS
from curator.services import imports, prepare
from db.models import Project, Source
from db.session import open_session

SHOWN = 5  # skipped lines named on the screen


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--project", default=None, help="Short name of the project the records go to.")
@click.option("--format", "importer", type=click.Choice(list(IMPORTERS)), help="Log format, if not to be found out.")
@click.option("--map", "pairs", multiple=True, metavar="FIELD=COLUMN", help="Column of a field, e.g. question=Ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be read and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@home_option
def import_(
    file: Path,
    project: str | None,
    importer: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    home: Path | None,
) -> None:
    """Read a log FILE into a project. Records that are there already are not read twice."""
    mapping = parse_mapping(pairs)
    if dry_run:
        found = imports.preview(file, importer, mapping)
        click.echo(json.dumps(asdict(found), ensure_ascii=False, default=str) if as_json else describe(found))
        return
    engine = open_database(settings_for(home))
    with open_session(engine, write=True) as session:
        source = imports.add_source(session, project_named(session, project), file, importer=importer, mapping=mapping)
    source = imports.run_import(engine, source.id or 0)
    click.echo(json.dumps(summary(source), ensure_ascii=False) if as_json else report(source))
    look_through(engine, source.project_id, say=not as_json)
    if source.state == "failed":
        raise Invalid(source.error)


def look_through(engine: Engine, project_id: int, *, say: bool) -> None:
    """Look through the new records at once. Interrupted, it is finished by the worker of `curator up`."""
    with open_session(engine, write=True) as session:
        waiting = prepare.pending(session, session.get_one(Project, project_id))
        if waiting:
            prepare.enqueue(session, project_id)
    if waiting and say:
        click.echo("Looking through them for search, repeated questions and personal data …")
    prepare.run(engine, project_id)


def parse_mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    """Read FIELD=COLUMN options."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise Invalid("“%(pair)s” is not FIELD=COLUMN, such as question=Ask.", pair=pair)
        mapping[field.strip()] = column.strip()
    return mapping


def describe(found: imports.Preview) -> str:
    """Put a preview into lines for a person."""
    lines = [
        f"Format: {found.importer} ({found.shape}, {found.encoding})",
        *(f"  {field}: {column}" for field, column in found.mapping.items()),
        *(f"{draft.line}: {_short(draft.question)} → {_short(draft.answer)}" for draft in found.drafts),
        *(f"Line {item.line} would be skipped: {item.reason}" for item in found.skipped[:SHOWN]),
    ]
    return "\n".join(lines)


def summary(source: Source) -> dict[str, Any]:
    """Answer what became of a source, for programs."""
    keys = ("id", "name", "importer", "state", "new", "duplicate", "skipped", "skips", "error")
    return {key: getattr(source, key) for key in keys}


def report(source: Source) -> str:
    """Put what became of a source into lines for a person."""
    lines = [f"{source.new:,} new, {source.duplicate:,} known already, {source.skipped:,} skipped."]
    lines += [f"Line {skip['line']}: {skip['reason']}" for skip in source.skips[:SHOWN]]
    if source.skipped > SHOWN:
        lines.append(f"… and {source.skipped - SHOWN:,} more; the source's page lists them.")
    return "\n".join(lines)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:59]}…"
