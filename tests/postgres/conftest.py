"""The fixtures `engine` and `session` on PostgreSQL: a fresh, migrated database for each test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from sqlalchemy import Engine

from db.session import connect, migrate
from tests.postgres.cluster import create, running

_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/postgres" in item.path.as_posix():
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The URL of a cluster, with a place for the database's name; its template is an empty, migrated database."""
    with running() as url:
        create(url, "migrated")
        engine = connect(url % "migrated")
        migrate(engine)
        engine.dispose()
        yield url


@pytest.fixture
def engine(cluster: str) -> Iterator[Engine]:
    name = f"test_{next(_numbers)}"
    create(cluster, name, "TEMPLATE migrated")
    engine = connect(cluster % name)
    yield engine
    engine.dispose()
