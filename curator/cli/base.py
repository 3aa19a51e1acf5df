"""`curator base`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from sqlmodel import Session, select

from curator.cli._context import home_option, open_database, settings_for
from curator.errors import Invalid, NotFound
from curator.launchers.table import open_launcher
from curator.services import admission, arrivals, bases, jobs
from db.models import Arrival, Base
from db.session import open_session
from trainer.bases import hub, ollama_store
from trainer.bases.curated import CURATED
from trainer.failures import TrainerFailure

STATES = {"passed": "can be taught", "failed": "cannot be taught", "not checked": "not checked"}


@click.group()
def base() -> None:
    """List, add and check base models."""


@base.command("list")
@click.option("--repository", default="", help="List the GGUF files of this repository of the model hub instead.")
@home_option
def list_(repository: str, home: Path | None) -> None:
    """List the bases that are here, what Ollama has on this machine, and small models worth trying."""
    settings = settings_for(home)
    if repository:
        try:
            found = hub.look(settings.hub_url, repository)
        except TrainerFailure as failure:
            raise Invalid("%(problem)s", problem=str(failure)) from failure
        for file in found.files:
            click.echo(f"{file.size / 1e6:8.0f} MB  {file.name}")
        return
    with open_session(open_database(settings)) as session:
        for one in bases.all_bases(session):
            click.echo(f"{one.id:4}  {one.name}  {one.size / 1e6:.0f} MB  {STATES[one.admission]}  {one.path}")
            if one.admission_message:
                click.echo(f"      {one.admission_message}")
    for model in ollama_store.models():
        click.echo(f"ollama  {model.name}  {model.size / 1e6:.0f} MB  {model.problem}".rstrip())
    for offer in CURATED:
        if offer.repository:
            click.echo(f"hub  {offer.repository}  {offer.file}  about {offer.size / 1e6:.0f} MB  {offer.licence}")


@base.command()
@click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="A GGUF file on this machine.")
@click.option("--ollama", help="A model that Ollama has on this machine, like qwen2.5:0.5b.")
@click.option("--repository", help="A repository of the model hub, like Qwen/Qwen3-0.6B-GGUF.")
@click.option("--name", default="", help="The file of that repository; without it the best one for teaching is taken.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Its full-precision folder.")
@click.option("--check/--no-check", default=True, help="Check it afterwards, which takes about a minute.")
@home_option
def add(
    path: Path | None, ollama: str | None, repository: str | None, name: str, folder: Path | None, check: bool,
    home: Path | None,
) -> None:  # fmt: skip
    """Add a base from a file, from Ollama's store or from the model hub. Ends with code 1 when it cannot be taught."""
    settings = settings_for(home)
    engine = open_database(settings)
    places = [("file", str(path or "")), ("ollama", ollama or ""), ("hub", repository or "")]
    given = [(source, origin) for source, origin in places if origin]
    if len(given) != 1:
        raise Invalid("Say where the base comes from: --file, --ollama or --repository, one of them.")
    (source, origin) = given[0]
    arrival = Arrival(source=source, origin=arrivals.understood(source, origin), file=name)
    file, licence = arrivals.fetched(settings, arrival, _show, lambda: False)
    with open_session(engine, write=True) as session:
        added = arrivals.make_known(session, arrival, file, licence)
        if folder:
            bases.set_folder(session, added, str(folder))
        number = added.id
    click.echo(f"{number}  {added.name}  {added.path}")
    if check and not _checked(home, number or 0):
        sys.exit(1)


@base.command("check")
@click.argument("number", type=int, required=False)
@home_option
def check_(number: int | None, home: Path | None) -> None:
    """Check a base by its number, or all of them: does what teaches read it as what answers does?

    Ends with code 1 when one cannot be taught.
    """
    with open_session(open_database(settings_for(home))) as session:
        numbers = [number] if number else [one.id or 0 for one in bases.all_bases(session)]
    results = [_checked(home, one) for one in numbers]
    if not all(results):
        sys.exit(1)


def _checked(home: Path | None, number: int) -> bool:
    """Test one base, keep and tell what was found; False when it must not be taught."""
    settings = settings_for(home)
    engine = open_database(settings)
    with open_session(engine) as session:
        tested = _numbered(session, number)
    found = admission.test(tested, settings, open_launcher(settings), jobs.Halt())
    assert found is not None  # noqa: S101  nobody asked it to stop
    with open_session(engine, write=True) as session:
        admission.keep(session, _numbered(session, number), found)
    click.echo(" ".join(filter(None, (f"{tested.name}: {STATES[found.state]}.", found.sentence, found.detail))))
    return found.state != "failed"


def _numbered(session: Session, number: int) -> Base:
    found = session.exec(select(Base).where(Base.id == number)).first()
    if found is None:
        raise NotFound("There is no base %(number)s. See: curator base list", number=number)
    return found


def _show(received: int, size: int) -> None:
    click.echo(f"\r{100 * received // max(1, size):3} % of {size / 1e6:.0f} MB", nl=received >= size, err=True)
