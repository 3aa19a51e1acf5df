"""Say in a sentence what went wrong outside of our code: a full disk, a damaged database, a setting that cannot be."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from curator.errors import DISK_FULL, CuratorError
from curator.settings import Settings

NO_ROOM = "The disk is full. Nothing saved before is lost; make room and try again."
DATABASE = {
    "full": NO_ROOM,
    "disk i/o": "The disk cannot be read or written. Check that it is there and has room, then try again.",
    "locked": "The database is busy with something else. Try again in a moment.",
    "not a database": "The database file is damaged or something else. Put the newest copy from backups/ in its place.",
    "malformed": "The database file is damaged. Put the newest copy from backups/ in its place.",
    "unable to open": "The database cannot be opened. Check that the home folder is there and may be written.",
    "connection": "The database server does not answer. Check CURATOR_DATABASE_URL, and that the server is running.",
    "resolve": "The database server's name is not known here. Check CURATOR_DATABASE_URL.",
    "readonly": "The database may not be written. Check who owns the home folder.",
}


def explain(error: Exception) -> str | None:
    """Answer the sentence for a mishap, or None for a mistake of ours, which wants its traceback."""
    if isinstance(error, CuratorError):
        return str(error)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, DBAPIError):
        text = str(error.orig).lower()
        return next((sentence for sign, sentence in DATABASE.items() if sign in text), None)
    if isinstance(error, NoSuchModuleError | ArgumentError):
        return "CURATOR_DATABASE_URL is no address of a database: postgresql+psycopg://user:password@host/name"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("psycopg"):
        return "PostgreSQL needs its driver: pip install 'psycopg[binary]'"
    if isinstance(error, ValidationError) and error.title == Settings.__name__:
        return "\n".join(_of_setting(str(one["loc"][0]), one["input"], one["msg"]) for one in error.errors())
    return None


def _of_setting(name: str, value: object, problem: str) -> str:
    return f"The setting CURATOR_{name.upper()} cannot be {value!r}: {problem.removeprefix('Value error, ')}."


def _of_system(error: OSError) -> str | None:
    if error.errno in DISK_FULL:
        return NO_ROOM
    if error.filename is None:
        return None
    return f"{error.filename}: {error.strerror}. Choose another place, or put that right and try again."
