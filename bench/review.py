"""Time what a reviewer waits for: save a decision and show the next card, and open the list of records.

    python bench/review.py --records 10000 [--decisions 300] [--json]

Server time through the whole app (routing, sign-in, templates, commit), without the network: with the whole queue,
with a narrow choice of it (Chinese, thumbs down: one record in ten), and three pages of the list. The floor is the
same statements straight on SQLite in the same run, prepared and without objects; the ratio says what the app adds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flask.testing import FlaskClient
from sqlalchemy import Engine, insert

from curator.app import create_app
from curator.security import COOKIE
from curator.services import accounts, counts, projects
from curator.settings import Settings
from db.models import Passage, Record, Source
from db.session import connect, migrate, open_session, sqlite_driver


@dataclass(frozen=True)
class Figure:
    """One line of the answer, in milliseconds; the budget is for the value alone."""

    what: str
    name: str
    value: float
    floor: float
    budget: float | None = None


BUDGET_MS = 15.0
BATCH = 20_000
LOOKS = 60
WARM = slice(10, None)
ANSWER = "Children under 7 travel free with a paying adult, but a free ticket must still be booked. " * 3

WAITING = """
project_id=1 AND state='new' AND NOT EXISTS (SELECT 1 FROM review v WHERE v.record_id=r.id AND v.user_id=1
  AND NOT EXISTS (SELECT 1 FROM retraction t WHERE t.review_id=v.id))
"""
CLAIM = f"""
UPDATE record SET claimed_by=1, claimed_until=? WHERE id=(SELECT id FROM record r
  WHERE {WAITING} AND assigned_to IS NULL AND (claimed_until IS NULL OR claimed_until<=? OR claimed_by=1) %s
  ORDER BY rank, id LIMIT 1) RETURNING *
"""  # noqa: S608  made of constants
FIRST = f"SELECT id FROM record r WHERE {WAITING} %s ORDER BY rank, id LIMIT 1"  # noqa: S608  made of constants
LEFT = f"""
SELECT count(*) FROM (SELECT 1 FROM record r WHERE {WAITING} AND (assigned_to IS NULL OR assigned_to=1) %s LIMIT 1001)
"""  # noqa: S608  made of constants
NARROW = "AND language='zh' AND thumbs=-1"
LINE = "id, state, substr(question,1,300), substr(answer,1,300), rating, edited, language, signals, happened_at"
PAGE = f"SELECT {LINE} FROM record r WHERE project_id=1 AND id>? %s ORDER BY id LIMIT 51"  # noqa: S608  made of constants
FOUND = "SELECT count(*) FROM (SELECT 1 FROM record r WHERE project_id=1 %s LIMIT 1001)"
TODAY = """
SELECT count(*) FROM (SELECT created_at FROM review v WHERE user_id=1 AND verdict<>'skip'
  AND NOT EXISTS (SELECT 1 FROM retraction t WHERE t.review_id=v.id) ORDER BY id DESC LIMIT 1000)
WHERE created_at>='2000'
"""


def rows(source: int, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Make records that look like a log's: some 300 characters each."""
    for number in range(first, last):
        thumbs, language = -1 if number % 2 else 1, "en" if number % 5 else "zh"
        yield {
            "id": number, "project_id": 1, "source_id": source, "digest": f"{number:064x}", "group": f"g{number // 3}",
            "external_id": "", "system": "", "turns": [], "question": f"Do I pay for my {number % 17} year old?",
            "answer": ANSWER, "reference": "", "signals": {"thumbs": thumbs}, "language": language,
            "thumbs": thumbs, "state": "new", "version": 1, "edited": False, "rank": 0,
        }  # fmt: skip


def fill(engine: Engine, records: int) -> str:
    """Fill a fresh database; answer the cookie of somebody who reviews there."""
    migrate(engine)
    with open_session(engine, write=True) as session:
        project = projects.create(session, "Bench", slug="bench")
        project.prepared_up_to = records
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
            counts.move(session, project.id or 0, {"new": last - first})
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


def decide(client: FlaskClient, decisions: int, choice: str = "") -> tuple[list[float], list[float]]:
    """Decide record after record of a choice; answer the milliseconds of each, by the clock and on the CPU."""
    page = client.get(f"/p/bench/review?{choice or 'order=doubt'}").text
    times: list[float] = []
    cpu: list[float] = []
    seen: set[str] = set()
    for number in range(decisions):
        record = page.split('data-record="')[1].split('"')[0]
        assert record not in seen, "no record comes twice"
        seen.add(record)
        data = {"version": 1, "request_id": f"{choice or 'all'}-{number:06}"[-60:], "verdict": "accept", "rating": "4"}
        address = f"/p/bench/records/{record}/reviews?{choice}"
        started, busy = time.perf_counter(), time.process_time()
        answer = client.post(address, data={**data, "seconds": "3.5"}, headers={"HX-Request": "true"})
        times.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - busy) * 1000)
        page = answer.text
        assert answer.status_code == 200, page
    return times, cpu


def look(client: FlaskClient, query: str) -> list[float]:
    """Open a page of the list again and again; answer the milliseconds of each."""
    times: list[float] = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        answer = client.get(f"/p/bench/records?{query}")
        times.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200 and 'class="line"' in answer.text
    return times


def look_straight(file: Path, after: int, narrow: str) -> list[float]:
    """Read the same page straight from SQLite."""
    connection = sqlite_driver().connect(str(file), isolation_level=None)
    times: list[float] = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        connection.execute(PAGE % narrow, (after,)).fetchall()
        connection.execute(FOUND % narrow).fetchall()
        times.append((time.perf_counter() - started) * 1000)
    connection.close()
    return times


def decide_straight(file: Path, decisions: int, narrow: str = "") -> tuple[list[float], list[float]]:
    """Do what a decision has to: find who asks, append, fold, commit, claim, read the passages, count what is left."""
    connection = sqlite_driver().connect(str(file), isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-32000"):
        connection.execute(f"PRAGMA {pragma}")
    do: Callable[..., Any] = connection.execute
    times: list[float] = []
    cpu: list[float] = []
    record = do(FIRST % narrow).fetchone()[0]
    for _ in range(decisions):
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
        claimed = do(CLAIM % narrow, (later, now)).fetchall()
        do("SELECT * FROM passage WHERE record_id=? ORDER BY position", (claimed[0][0],)).fetchall()
        do(LEFT % narrow).fetchall()
        do(TODAY).fetchall()
        do("COMMIT")
        times.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - busy) * 1000)
        record = claimed[0][0]
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
    assert wanted.records > 25 * wanted.decisions, "too few records for so many decisions"
    with tempfile.TemporaryDirectory(dir=wanted.folder) as folder:
        settings = Settings(home=Path(folder))
        engine = connect(settings.url)
        token = fill(engine, wanted.records)
        app = create_app(settings)
        app.config["WTF_CSRF_ENABLED"] = False
        client = app.test_client()
        client.set_cookie(COOKIE, token)
        figures = measure(client, Path(folder) / "curator.db", wanted.records, wanted.decisions)
        app.extensions["curator.engine"].dispose()
        engine.dispose()
    report(wanted.records, figures, as_json=wanted.json)


def measure(client: FlaskClient, file: Path, records: int, decisions: int) -> list[Figure]:
    """Time decisions and pages, and the same statements straight on SQLite."""
    figures: list[Figure] = []
    for what, choice, narrow, budget in (
        ("save and next", "", "", BUDGET_MS),
        ("save and next of a filter", "language=zh&signal=down", NARROW, None),
    ):
        (times, cpu), (floor, least) = decide(client, decisions, choice), decide_straight(file, decisions, narrow)
        figures += figures_of(what, times, floor, budget)
        figures.append(Figure(what, "CPU p50", statistics.median(cpu[WARM]), statistics.median(least[WARM])))
    far = max(0, min(records - 60, 1000 * 50))
    for what, query, after, narrow in (
        ("first page of the list", "", 0, ""),
        ("filtered page of the list", "language=zh&signal=down", 0, NARROW),
        (f"page {far // 50} of the list", f"after={far}", far, ""),
    ):
        figures += figures_of(what, look(client, query), look_straight(file, after, narrow), None)
    return figures


def figures_of(what: str, times: list[float], floor: list[float], budget: float | None) -> list[Figure]:
    """Answer the median and the 95th percentile, the first few left out."""
    return [
        Figure(what, "p50", statistics.median(times[WARM]), statistics.median(floor[WARM])),
        Figure(what, "p95", percentile(times[WARM], 0.95), percentile(floor[WARM], 0.95), budget),
    ]


def report(records: int, figures: list[Figure], *, as_json: bool) -> None:
    """Print the figures beside budget and floor."""
    for figure in figures:
        ratio = figure.value / figure.floor
        if as_json:
            line = {
                "bench": "review", "metric": f"{figure.what}, {figure.name}, {records} records",
                "value": round(figure.value, 2), "unit": "ms", "better": "lower", "budget": figure.budget,
                "floor": round(figure.floor, 2), "ratio": round(ratio, 2),
            }  # fmt: skip
            print(json.dumps(line))
        else:
            within = f"   budget {figure.budget:g} ms" if figure.budget else ""
            print(
                f"{records:9,} records   {figure.what:26} {figure.name:7} {figure.value:7.2f} ms"
                f"   floor {figure.floor:6.2f} ms   {ratio:4.1f}×{within}"
            )


if __name__ == "__main__":
    main()
