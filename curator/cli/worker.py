"""`curator worker`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

import click

from curator.cli._context import home_option, open_database, settings_for
from db.models import Queue
from db.session import open_session


@click.command()
@click.argument("queue", type=click.Choice(["train", "light"]))
@click.option("--until-idle", is_flag=True, help="End when nothing is left to do.")
@home_option
def worker(queue: str, until_idle: bool, home: Path | None) -> None:
    """Work on one queue: `train` for teaching, `light` for everything else.

    SIGTERM brings the job at hand to a safe point, puts it back and ends.
    """
    from curator.services import prepare
    from curator.worker import Worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    settings = settings_for(home)
    one = Worker(settings, cast("Queue", queue), engine=open_database(settings))
    one.leave_on_signals()
    if queue == "light":
        with open_session(one.engine, write=True) as session:
            prepare.enqueue_all(session)
    if until_idle:
        one.run_until_idle()
    else:
        one.run()
