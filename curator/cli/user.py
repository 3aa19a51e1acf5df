"""`curator user`."""

from __future__ import annotations

from pathlib import Path

import click

from curator.cli._context import home_option, open_database, project_named, settings_for
from curator.services import accounts
from db.session import open_session


@click.group()
def user() -> None:
    """Add people and make sign-in links."""


@user.command()
@click.argument("login")
@click.option("--name", default="", help="The person's name.")
@click.option("--admin", is_flag=True, help="Let them manage accounts and storage.")
@click.option("--project", default=None, help="Short name of the project they work in.")
@click.option("--role", type=click.Choice(["viewer", "reviewer", "lead"]), default=None, help="What they do there.")
@home_option
def add(login: str, name: str, admin: bool, project: str | None, role: str | None, home: Path | None) -> None:
    """Add a person and print a link that signs them in once."""
    settings = settings_for(home)
    with open_session(open_database(settings), write=True) as session:
        person = accounts.create_user(session, login, name or login, admin=admin)
        if role:
            accounts.set_role(session, person, project_named(session, project), role)
        token = accounts.make_link(session, "sign-in", person, minutes=60)
    click.echo(sign_in_address(settings.address, token))


@user.command()
@click.argument("login")
@click.option("--minutes", default=60, show_default=True, type=click.IntRange(1, 10080), help="How long it works.")
@home_option
def link(login: str, minutes: int, home: Path | None) -> None:
    """Print a link that signs a person in once."""
    settings = settings_for(home)
    with open_session(open_database(settings), write=True) as session:
        token = accounts.make_link(session, "sign-in", accounts.by_login(session, login), minutes=minutes)
    click.echo(sign_in_address(settings.address, token))


def sign_in_address(address: str, token: str) -> str:
    """Answer where a one-time token is spent."""
    return f"{address}/link/{token}"
