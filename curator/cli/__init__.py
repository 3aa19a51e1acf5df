"""The command line: one small module per command, loaded when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NamedTuple

import click

from curator import __version__


class Entry(NamedTuple):
    """Where a command is defined and what its line in `--help` says."""

    module: str
    attribute: str
    text: str


COMMANDS: dict[str, Entry] = {
    "init": Entry("curator.cli.init", "init", "Prepare a home folder: database, key, base model."),
    "up": Entry("curator.cli.up", "up", "Start everything and print one address."),
    "import": Entry("curator.cli.import_", "import_", "Read a log file into a project."),
    "export": Entry("curator.cli.export", "export", "Write a dataset in another tool's format."),
    "base": Entry("curator.cli.base", "base", "List, add and check base models."),
    "version": Entry("curator.cli.version", "version", "List, promote, export and retire model versions."),
    "backup": Entry("curator.cli.backup", "backup", "Write a checked copy of the database."),
    "loop": Entry("curator.cli.loop", "loop", "Run the whole loop on the sample project, without a browser."),
    "user": Entry("curator.cli.user", "user", "Add people and make sign-in links."),
    "doctor": Entry("curator.cli.doctor", "doctor", "Look for what is missing on this machine."),
    "worker": Entry("curator.cli.worker", "worker", "Work on one queue; `curator up` starts these itself."),
}


class LazyGroup(click.Group):
    """A group that imports a command only to run it, so that `curator --help` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as above
        entry = COMMANDS.get(cmd_name)
        return getattr(import_module(entry.module), entry.attribute) if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.text) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort):
                raise
            from curator.cli._mishaps import explain  # here, because it loads the database library

            sentence = explain(error)
            if sentence is None:
                raise
            click.echo(sentence, err=True)
            sys.exit(2)


@click.group(cls=LazyGroup)
@click.version_option(__version__, prog_name="curator")
def main() -> None:
    """From RAG log to a better local model: review, teach, publish, compare, put into service."""
