"""Read and insert many rows as plain tuples.

SQLAlchemy's own insert() of 1,000 dictionaries costs more than SQLite needs to store them; this compiles the same
statement once and hands the driver plain tuples, converted by the columns' own types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Executable, Float, Table, insert
from sqlmodel import Session


def fetch(session: Session, query: Executable) -> Sequence[Any]:  # rows of the columns the query names
    """Run a query over table columns in the session's transaction, after what the session has yet to write."""
    session.flush()
    return session.connection().execute(query).all()


class Insert:
    """An INSERT of some columns of a table; rows that would break a uniqueness rule are left out."""

    def __init__(self, table: Table, columns: Sequence[str], dialect: Dialect) -> None:
        compiled = insert(table).inline().compile(dialect=dialect, column_keys=list(columns))  # inline: no RETURNING
        order: Sequence[str] | None = getattr(compiled, "positiontup", None)
        self.named = order is None
        self.columns = list(order or columns)
        self.sql = f"{compiled} ON CONFLICT DO NOTHING"
        self.places = [list(columns).index(name) for name in self.columns]  # of the given columns, in the statement
        self.convert: list[tuple[int, Callable[[Any], Any]]] = []
        for place, name in enumerate(columns):
            process = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
            if process is not None and not isinstance(table.c[name].type, Float):  # a float is one already
                self.convert.append((place, process))

    def run(self, connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert rows, each a tuple in the order of the columns given."""
        ready: list[Any] = self._converted(rows)
        if self.named:
            ready = [dict(zip(self.columns, row, strict=True)) for row in ready]
        if ready:
            connection.exec_driver_sql(self.sql, ready)

    def _converted(self, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Put the columns in the statement's order, with values as it takes them; whole columns cost less than rows."""
        columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
        for place, process in self.convert if columns else ():
            columns[place] = _each(process, columns[place])
        return list(zip(*[columns[place] for place in self.places], strict=True)) if columns else []


def _each(process: Callable[[Any], Any], values: Iterable[Any]) -> Iterator[Any]:
    """Convert values; one that is the very object of the row before is not done twice."""
    before: Any = object()
    done: Any = None
    for value in values:
        if value is not before:
            before, done = value, process(value)
        yield done
