"""Read and insert many rows as plain tuples.

SQLAlchemy's own insert() of 1,000 dictionaries costs more than SQLite needs to store them; this compiles the same
statement once and hands the driver plain tuples, converted by the columns' own types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Executable, Table, insert
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
        self.in_order = None
        if self.columns != list(columns):
            self.in_order = itemgetter(*[list(columns).index(name) for name in self.columns])
        self.convert: list[tuple[int, Callable[[Any], Any]]] = []
        for place, name in enumerate(self.columns):
            process = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
            if process is not None:
                self.convert.append((place, process))

    def run(self, connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert rows, each a tuple in the order of the columns given."""
        ready: list[Any] = list(map(self.in_order, rows) if self.in_order else rows)
        if self.convert:
            ready = list(self._converted(ready))
        if self.named:
            ready = [dict(zip(self.columns, row, strict=True)) for row in ready]
        if ready:
            connection.exec_driver_sql(self.sql, ready)

    def _converted(self, rows: Iterable[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
        """Convert values as their columns ask; one that is the very object of the row before is not done twice."""
        unseen = object()
        before: list[tuple[Any, Any]] = [(unseen, None)] * len(self.columns)
        for row in rows:
            values = list(row)
            for place, process in self.convert:
                value = values[place]
                if value is not before[place][0]:
                    before[place] = (value, process(value))
                values[place] = before[place][1]
            yield tuple(values)
