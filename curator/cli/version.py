"""`curator version`."""

from __future__ import annotations

from pathlib import Path

import click
from sqlmodel import Session

from curator.cli._context import home_option, open_database, project_named, settings_for
from curator.services import handover, number_types, versions
from db.models import ModelVersion, Project, Run
from db.session import open_session

project_option = click.option("--project", default=None, help="Short name of the project.")
reason_option = click.option("--reason", default="", help="Why; it is kept in the journal.")

FORMS = {"merged": "as one merged file", "adapter": "as an adapter on its base"}


@click.group()
def version() -> None:
    """List model versions, make one of another number type, put one into service, go back, export, retire.

    What takes long, or is asked of a runtime, a worker does.
    """


@version.command("list")
@project_option
@home_option
def list_(project: str | None, home: Path | None) -> None:
    """List the versions, newest first, with what retiring them frees."""
    with open_session(open_database(settings_for(home))) as session:
        for one in versions.every(session, project_named(session, project)):
            where = f"{one.runtime or '-'}  {one.merged_type}  {_frees(one)}"
            click.echo(f"v{one.number}  {one.state}  {one.tag}  {where}  {one.message}".rstrip())


@version.command()
@click.argument("number", type=int)
@project_option
@home_option
def show(number: int, project: str | None, home: Path | None) -> None:
    """Show a version's files, and the commands that load it by hand."""
    settings = settings_for(home)
    with open_session(open_database(settings)) as session:
        found = versions.get(session, project_named(session, project), number)
        ways = handover.commands(session, found, settings), handover.adapter_commands(session, found, settings)
    click.echo(f"cd {found.folder}")
    for file in handover.files(found):
        click.echo(f"# {file.name}  {file.size / 1e6:.1f} MB")
    if found.runtime == "ollama" and found.state != "retired":
        click.echo(f"# in Ollama {FORMS[found.form]}; retiring it frees {_frees(found)}")
    for way in filter(None, ways):
        for said in (way.ollama, way.curl, way.llama_server):
            click.echo(f"\n{said}")


@version.command()
@click.argument("number", type=int)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@project_option
@home_option
def export(number: int, folder: Path, project: str | None, home: Path | None) -> None:
    """Copy a version into a new FOLDER: GGUF, adapter, Modelfile and model card."""
    settings = settings_for(home)
    with open_session(open_database(settings)) as session:
        found = versions.get(session, project_named(session, project), number)
        for file in handover.export(session, found, folder, settings):
            click.echo(file)


@version.command()
@click.argument("number", type=int)
@reason_option
@project_option
@home_option
def promote(number: int, reason: str, project: str | None, home: Path | None) -> None:
    """Put a version into service; 0 is the untaught base."""
    with open_session(open_database(settings_for(home)), write=True) as session:
        where = project_named(session, project)
        versions.promote(session, where, versions.get(session, where, number) if number else None, None, reason)
        click.echo(_serving(session, where))


@version.command()
@reason_option
@project_option
@home_option
def back(reason: str, project: str | None, home: Path | None) -> None:
    """Put back what was in service before."""
    with open_session(open_database(settings_for(home)), write=True) as session:
        where = project_named(session, project)
        versions.roll_back(session, where, None, reason)
        click.echo(_serving(session, where))


@version.command()
@click.argument("number", type=int)
@project_option
@home_option
def retire(number: int, project: str | None, home: Path | None) -> None:
    """Take a version out of use and free its files here and in its runtime; never the one in service."""
    with open_session(open_database(settings_for(home)), write=True) as session:
        found = versions.get(session, project_named(session, project), number)
        frees = _frees(found)
        versions.retire(session, found, None)
    click.echo(f"v{number} is retired, which frees {frees}")


@version.command()
@click.option("--keep", default=3, show_default=True, type=click.IntRange(0), help="How many of the newest stay.")
@click.option("--yes", is_flag=True, help="Do it; without it the versions are only listed.")
@project_option
@home_option
def prune(keep: int, yes: bool, project: str | None, home: Path | None) -> None:
    """Retire old versions, but never what is in service or what one would go back to."""
    with open_session(open_database(settings_for(home)), write=True) as session:
        where = project_named(session, project)
        old = versions.outdated(session, where, keep)
        for one in old:
            click.echo(f"v{one.number}  {one.tag}  {_frees(one)}")
        if yes:
            versions.prune(session, where, [one.number for one in old], None)
    click.echo(f"{len(old)} retired" if yes else f"{len(old)} would be retired. Do it: curator version prune --yes")


@version.command()
@click.argument("number", type=int)
@click.option("--measure", is_flag=True, help="Have a worker measure them first.")
@project_option
@home_option
def types(number: int, measure: bool, project: str | None, home: Path | None) -> None:
    """List what a version would keep of its lesson as a file of another number type."""
    with open_session(open_database(settings_for(home)), write=True) as session:
        run = _run_of(session, project_named(session, project), number)
        if measure:
            number_types.request_measuring(session, run, None)
            click.echo("The number types are being measured. List them when that is done.")
            return
        found = number_types.choice(session, run)
    if run.trouble:
        click.echo(run.trouble)
    if not found.measured:
        click.echo("They are being measured." if found.measuring else "They are not measured yet. Do it: --measure")
    for row in found.rows:
        made = " ".join(f"v{one.number}" for one in row.versions) or ("being made" if row.making else "-")
        size = f"{row.offer.size / 1e6:.0f} MB"
        click.echo(f"{row.offer.merged_type}  {size}  loss {row.offer.loss:.3f}  {row.words}  {made}")
    for one in found.left_out:
        click.echo(f"{one.merged_type}  -  {one.why}")


@version.command()
@click.argument("number", type=int)
@click.option("--type", "merged_type", required=True, help="Number type, as `curator version types` lists them.")
@project_option
@home_option
def make(number: int, merged_type: str, project: str | None, home: Path | None) -> None:
    """Have a worker make a version of another number type of what version NUMBER learnt."""
    settings = settings_for(home)
    with open_session(open_database(settings), write=True) as session:
        run = _run_of(session, project_named(session, project), number)
        number_types.request_version(session, run, merged_type, None, settings)
    click.echo(f"A version of type {merged_type} is being made. It is examined and loaded as any other.")


def _run_of(session: Session, project: Project, number: int) -> Run:
    return session.get_one(Run, versions.get(session, project, number).run_id)


def _frees(version: ModelVersion) -> str:
    """Say what retiring a version frees: here, and in Ollama as it was when a worker last looked."""
    there = f" here and {version.frees / 1e6:.0f} MB in Ollama" if version.frees else ""
    return f"{handover.size(version) / 1e6:.0f} MB{there}"


def _serving(session: Session, project: Project) -> str:
    serving = session.get(ModelVersion, project.service_version_id or 0)
    return f"v{serving.number} is in service" if serving else "The untaught base is in service"
