"""`curator up`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from curator.cli._context import home_option, settings_for


@click.command()
@click.option("--host", default=None, help="Address the web app listens on.")
@click.option("--port", default=None, type=click.IntRange(1, 65535), help="Port the web app listens on.")
@click.option(
    "--open-as", default="", metavar="LOGIN", help="Whom the printed link signs in; the first one becomes admin."
)
@home_option
def up(host: str | None, port: int | None, open_as: str, home: Path | None) -> None:
    """Start web app, workers and runtime, and print one address.

    Ctrl-C ends everything; a training under way is saved and goes on at the next start.
    """
    from curator.supervisor import Supervisor

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    Supervisor(settings_for(home, host=host, port=port), open_as, click.echo).run()
