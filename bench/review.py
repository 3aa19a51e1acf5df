"""Time what a reviewer waits for: save a decision and show the next card, at any number of records.

    python bench/review.py --records 10000 [--decisions 300] [--json]

Server time through the whole app (routing, sign-in, templates, commit), without the network. The floor is the same
statements straight on SQLite in the same run, prepared and without objects; the ratio says what the app adds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flask.testing import FlaskClient
from sqlalchemy import Engine, insert
from sqlmodel import Session, select

from curator.app import create_app
from curator.security import COOKIE
from curator.services import accounts, projects
from curator.settings import Settings
from db.models import Passage, Record, Review, Source
from db.session import connect, migrate, open_session, sqlite_driver

Figure = tuple[str, float, float, float | None]  # name, value, floor, budget
BUDGET_MS = 15.0
BATCH = 20_000
ANSWER = "Children under 7 travel free with a paying adult, but a free ticket must still be booked. " * 3

CLAIM = """
UPDATE record SET claimed_by=1, claimed_until=? WHERE id=(SELECT id FROM record r
  WHERE project_id=1 AND state='new' AND (claimed_until IS NULL OR claimed_until<=?)
  AND NOT EXISTS (SELECT 1 FROM review v WHERE v.record_id=r.id AND v.user_id=1
    AND NOT EXISTS (SELECT 1 FROM retraction t WHERE t.review_id=v.id))
  ORDER BY rank, id LIMIT 1) RETURNING *
"""
LEFT = """
SELECT count(*) FROM (SELECT 1 FROM record r WHERE project_id=1 AND state='new'
  AND NOT EXISTS (SELECT 1 FROM review v WHERE v.record_id=r.id AND v.user_id=1
    AND NOT EXISTS (SELECT 1 FROM retraction t WHERE t.review_id=v.id)) LIMIT 1001)
"""
TODAY = """
SELECT count(*) FROM (SELECT created_at FROM review v WHERE user_id=1 AND verdict<>'skip'
  AND NOT EXISTS (SELECT 1 FROM retraction t WHERE t.review_id=v.id) ORDER BY id DESC LIMIT 1000)
WHERE created_at>='2000'
"""


def rows(source: int, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Make records that look like a log's: some 300 characters each."""
    for number in range(first, last):
        yield {
            "id": number, "project_id": 1, "source_id": source, "digest": f"{number:064x}", "group": f"g{number // 3}",
            "external_id": "", "system": "", "turns": [], "question": f"Do I pay for my {number % 17} year old?",
            "answer": ANSWER, "reference": "", "signals": {"thumbs": -1}, "language": "en", "state": "new",
            "version": 1, "edited": False, "rank": 0,
        }  # fmt: skip


def fill(engine: Engine, records: int) -> str:
    """Fill a fresh database; answer the cookie of somebody who reviews there."""
    migrate(engine)
    with open_session(engine, write=True) as session:
        project = projects.create(session, "Bench", slug="bench")
        user = accounts.create_user(session, "noor", "Noor")
        accounts.set_role(session, user, project, "reviewer")
        source = Source(project_id=project.id or 0, name="log", importer="chat")
        session.add(source)
        session.flush()
        token, source_id = accounts.sign_in(session, user), source.id or 0
    for first in range(1, records + 1, BATCH):
        last = min(first + BATCH, records + 1)
        with open_session(engine, write=True) as session:
            session.connection().execute(insert(Record), list(rows(source_id, first, last)))
            if first == 1:  # only these will be shown
                session.connection().execute(
                    insert(Passage),
                    [
                        {"record_id": n, "position": p, "document": "Fares", "text": ANSWER, "score": 0.8 - p / 10}
                        for n in range(first, last)
                        for p in range(3)
                    ],
                )
    return token


def through_the_app(client: FlaskClient, engine: Engine, decisions: int) -> tuple[list[float], list[float]]:
    """Decide record after record; answer the milliseconds of each, by the clock and on the CPU."""
    client.get("/p/bench/review")
    times: list[float] = []
    cpu: list[float] = []
    record = 1
    for number in range(decisions):
        data = {"version": 1, "request_id": f"bench-{number:06}", "verdict": "accept", "rating": "4", "seconds": "3.5"}
        started, busy = time.perf_counter(), time.process_time()
        answer = client.post(f"/p/bench/records/{record}/reviews", data=data, headers={"HX-Request": "true"})
        times.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - busy) * 1000)
        assert answer.status_code == 200, answer.text
        record += 1
        assert f'data-record="{record}"' in answer.text, "the next record is the one after"
    with Session(engine) as session:
        assert len(session.exec(select(Review.id)).all()) == decisions
    return times, cpu


def straight_on_sqlite(file: Path, first: int, decisions: int) -> tuple[list[float], list[float]]:
    """Do what a decision has to: find who asks, append, fold, commit, claim, read the passages, count what is left."""
    connection = sqlite_driver().connect(str(file), isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-32000"):
        connection.execute(f"PRAGMA {pragma}")
    do: Callable[..., Any] = connection.execute
    times: list[float] = []
    cpu: list[float] = []
    for record in range(first, first + decisions):
        now, later = "2026-01-01 00:00:00.000000", "2099-01-01 00:00:00.000000"
        started, busy = time.perf_counter(), time.process_time()
        do("BEGIN IMMEDIATE")
        do("SELECT * FROM login_session s JOIN user u ON u.id=s.user_id WHERE s.token_hash=?", ("x",)).fetchall()
        do("SELECT * FROM project WHERE slug='bench'").fetchall()
        do("SELECT * FROM membership WHERE user_id=1 AND project_id=1").fetchall()
        do("SELECT * FROM record WHERE id=?", (record,)).fetchall()
        do("SELECT 1 FROM review WHERE request_id=?", (f"floor-{record}",)).fetchall()
        do(
            "UPDATE record SET version=version+1, claimed_by=NULL, claimed_until=NULL WHERE id=? AND version=1",
            (record,),
        )
        review = do(
            "INSERT INTO review (record_id,user_id,request_id,verdict,rating,reasons,comment,adjudication,"
            "record_version,created_at) VALUES (?,1,?,'accept',4,'[]','',0,1,?)",
            (record, f"floor-{record}", now),
        ).lastrowid
        do("SELECT * FROM review v LEFT JOIN retraction t ON t.review_id=v.id WHERE record_id=?", (record,)).fetchall()
        do("UPDATE record SET state='accepted',rating=4,settled_by=?,settled_at=? WHERE id=?", (review, now, record))
        claimed = do(CLAIM, (later, now)).fetchall()
        do("SELECT * FROM passage WHERE record_id=? ORDER BY position", (claimed[0][0],)).fetchall()
        do(LEFT).fetchall()
        do(TODAY).fetchall()
        do("COMMIT")
        times.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - busy) * 1000)
    connection.close()
    return times, cpu


def percentile(times: list[float], share: float) -> float:
    """Answer the value that this share of the times stays below."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000, help="records in the database")
    parser.add_argument("--decisions", type=int, default=300, help="decisions to time")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--folder", type=Path, help="where to make the database; default: a temporary folder")
    wanted = parser.parse_args()
    assert wanted.records > 2 * wanted.decisions + 2, "too few records for so many decisions"
    with tempfile.TemporaryDirectory(dir=wanted.folder) as folder:
        settings = Settings(home=Path(folder))
        engine = connect(settings.url)
        token = fill(engine, wanted.records)
        app = create_app(settings)
        app.config["WTF_CSRF_ENABLED"] = False
        client = app.test_client()
        client.set_cookie(COOKIE, token)
        times, cpu = through_the_app(client, engine, wanted.decisions)
        floor, least = straight_on_sqlite(Path(folder) / "curator.db", wanted.decisions + 2, wanted.decisions)
        app.extensions["curator.engine"].dispose()
        engine.dispose()
    warm = slice(10, None)
    figures: list[Figure] = [
        ("p50", statistics.median(times[warm]), statistics.median(floor[warm]), None),
        ("p95", percentile(times[warm], 0.95), percentile(floor[warm], 0.95), BUDGET_MS),
        (
            "CPU p50",
            statistics.median(cpu[warm]),
            statistics.median(least[warm]),
            None,
        ),  # a busy machine distorts it less
    ]
    report(wanted.records, figures, as_json=wanted.json)


def report(records: int, figures: list[Figure], *, as_json: bool) -> None:
    """Print the figures beside budget and floor."""
    for name, value, least, budget in figures:
        if as_json:
            line = {
                "bench": "review", "metric": f"save and next, {name}, {records} records", "value": round(value, 2),
                "unit": "ms", "better": "lower", "budget": budget, "floor": round(least, 2),
                "ratio": round(value / least, 2),
            }  # fmt: skip
            print(json.dumps(line))
        else:
            within = f"   budget {budget:g} ms" if budget else ""
            print(
                f"save a decision and show the next card, {name}, {records:,} records: {value:6.2f} ms"
                f"   floor {least:5.2f} ms   {value / least:4.1f}×{within}"
            )


if __name__ == "__main__":
    main()
