"""Time searches at any number of records, and how fast records are indexed.

    python bench/search.py --records 10000 [--rounds 5] [--json]

Each search lists 50 records as the page does: parse, index, join with the records, newest first. The floor is the
same statement straight on SQLite in the same run. A quarter of the records is Chinese; words are as frequent as in
real texts (Zipf's law). Some thousand records are also looked through by the whole job that follows an import.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import Engine, insert
from sqlmodel import Session

from curator.services import counts, prepare, projects, records, search
from curator.services.choice import Choice
from db import search as index
from db.models import Project, Record, Source
from db.session import connect, migrate, open_session, sqlite_driver

BUDGET_MS = 50.0
BATCH = 5_000
PREPARED = 3_000
WORDS, SIGNS = 20_000, 2_500
QUESTION, ANSWER, PASSAGES = 10, 40, 60  # words
FLOOR = """
SELECT r.id, r.state, substr(r.question, 1, 300), substr(r.answer, 1, 300), r.rating, r.edited, r.language, r.signals,
  r.happened_at FROM record_search s JOIN record r ON s.rowid = r.id WHERE s.record_search MATCH ? AND r.project_id = 1
ORDER BY s.rowid DESC LIMIT 51
"""


class Speech(NamedTuple):
    """The words of a language, the most frequent first."""

    words: list[str]
    weights: list[float]
    gap: str

    def say(self, dice: random.Random, count: int) -> str:
        return self.gap.join(dice.choices(self.words, cum_weights=self.weights, k=count))


def languages() -> tuple[Speech, Speech]:
    """Make up a vocabulary each: English-looking words of one to five syllables, Chinese ones of two characters."""
    dice = random.Random(17)  # noqa: S311  made-up text, no secret
    syllables = [first + second for first in "bcdfglmnprstvw" for second in ("a", "e", "i", "o", "u", "er", "in", "on")]
    english = list(dict.fromkeys("".join(dice.choices(syllables, k=1 + n % 5)) for n in range(3 * WORDS)))[:WORDS]
    common = list(accumulate(1 / (rank + 20) for rank in range(SIGNS)))
    signs = [chr(0x4E00 + 7 * number) for number in range(SIGNS)]
    chinese = list(dict.fromkeys("".join(dice.choices(signs, cum_weights=common, k=2)) for _ in range(3 * WORDS)))
    zipf = list(accumulate(1 / (rank + 3) for rank in range(WORDS)))
    return Speech(english, zipf[: len(english)], " "), Speech(chinese[:WORDS], zipf[: len(chinese[:WORDS])], "")


def searches(english: Speech, chinese: Speech) -> dict[str, list[str]]:
    """Name the kinds of searches and some of each; rare words are in about one of 1,500 records."""
    far = range(WORDS - 3000, WORDS - 2000, 100)
    return {
        "common English word": english.words[:10],
        "rare English word": [english.words[rank] for rank in far],
        "common 2-character Chinese word": chinese.words[:10],
        "rare 2-character Chinese word": [chinese.words[rank] for rank in far],
        "one Chinese character": [chinese.words[rank][0] for rank in range(10)],
        "two words": [f"{english.words[rank]} {english.words[900 + rank]}" for rank in range(10)],
        "two common words that never meet": [f"{english.words[rank]} {chinese.words[rank]}" for rank in range(10)],
        "English phrase": [f'"{english.words[rank]} {english.words[rank + 40]}"' for rank in range(10)],
        "4-character Chinese phrase": [chinese.words[rank] + chinese.words[rank + 40] for rank in range(10)],
        "beginning of a word": [f"{english.words[rank][:3]}*" for rank in far],
    }


def texts(dice: random.Random, speech: Speech) -> tuple[str, str, str]:
    """Make up a question, an answer and what was retrieved."""
    return speech.say(dice, QUESTION), speech.say(dice, ANSWER), speech.say(dice, PASSAGES)


def rows(first: int, last: int, speeches: tuple[Speech, Speech]) -> Iterator[tuple[dict[str, Any], str]]:
    """Make the records of a log, and of each what it had retrieved."""
    dice = random.Random(first)  # noqa: S311  made-up text, no secret
    for number in range(first, last):
        question, answer, retrieved = texts(dice, speeches[number % 4 == 0])
        row = {
            "id": number, "project_id": 1, "source_id": 1, "digest": f"{number:064x}", "group": f"g{number // 3}",
            "external_id": "", "system": "", "turns": [], "question": question, "answer": answer, "reference": "",
            "signals": {"thumbs": -1}, "language": "en", "state": "new", "version": 1, "edited": False, "rank": 0,
        }  # fmt: skip
        yield row, retrieved


def fill(engine: Engine, number: int, speeches: tuple[Speech, Speech]) -> tuple[Project, float]:
    """Fill a fresh database; answer its project and the seconds that indexing took."""
    migrate(engine)
    with open_session(engine, write=True) as session:
        project = projects.create(session, "Bench", slug="bench")
        session.add(Source(project_id=project.id or 0, name="log", importer="chat"))
        counts.move(session, project.id or 0, {"new": number})
    spent = 0.0
    for first in range(1, number + 1, BATCH):
        made = list(rows(first, min(first + BATCH, number + 1), speeches))
        with open_session(engine, write=True) as session:
            session.connection().execute(insert(Record), [row for row, _ in made])
            started = time.perf_counter()
            index.put(
                session.connection(),
                (search.entry(row["id"], (row["question"], row["answer"], more)) for row, more in made),
            )
            spent += time.perf_counter() - started
    return project, spent


def through_the_page(session: Session, project: Project, asked: str) -> tuple[float, int]:
    """List what a search finds; answer the milliseconds and how many records there were."""
    started = time.perf_counter()
    found = records.page(session, project, Choice(q=asked))
    return (time.perf_counter() - started) * 1000, len(found.lines)


def straight_on_sqlite(connection: Any, asked: str) -> tuple[float, int]:  # the driver's connection
    """Do the same in the driver; the index's own words are ready made."""
    phrases = [phrase for term in search.parse(asked).terms for phrase in term.phrases]
    words = " AND ".join(f'"{" ".join(phrase.tokens)}"{"*" if phrase.prefix else ""}' for phrase in phrases)
    started = time.perf_counter()
    found = connection.execute(FLOOR, (words,)).fetchall()
    return (time.perf_counter() - started) * 1000, len(found[:50])


def measure(engine: Engine, file: Path, project: Project, asked: list[str], rounds: int) -> tuple[list[float], ...]:
    """Time each search several times, in the app and on SQLite in turn."""
    times: list[float] = []
    floor: list[float] = []
    with closing(sqlite_driver().connect(str(file))) as bare, Session(engine) as session:
        for pragma in ("cache_size=-32000", "temp_store=MEMORY"):
            bare.execute(f"PRAGMA {pragma}")
        for number in range(rounds + 1):
            for words in asked:
                spent, found = through_the_page(session, project, words)
                least, same = straight_on_sqlite(bare, words)
                assert found == same, words
                if number:  # the first round warms up
                    times.append(spent)
                    floor.append(least)
    return times, floor


def looked_through(folder: Path, speeches: tuple[Speech, Speech]) -> float:
    """Time the whole job that follows an import, in records a second."""
    engine = connect(f"sqlite:///{folder / 'prepared.db'}")
    migrate(engine)
    with open_session(engine, write=True) as session:
        project = projects.create(session, "Bench", slug="bench")
        session.add(Source(project_id=project.id or 0, name="log", importer="chat"))
        session.flush()
        session.connection().execute(insert(Record), [row for row, _ in rows(1, PREPARED + 1, speeches)])
    started = time.perf_counter()
    prepare.run(engine, project.id or 0)
    spent = time.perf_counter() - started
    engine.dispose()
    return PREPARED / spent


def percentile(times: list[float], share: float) -> float:
    """Answer the value that this share of the times stays below."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000, help="records in the database")
    parser.add_argument("--rounds", type=int, default=5, help="times each search is made")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--folder", type=Path, help="where to make the database; default: a temporary folder")
    wanted = parser.parse_args()
    speeches = languages()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as folder:
        file = Path(folder) / "curator.db"
        engine = connect(f"sqlite:///{file}")
        project, spent = fill(engine, wanted.records, speeches)
        rate = looked_through(Path(folder), speeches)
        for kind, asked in searches(*speeches).items():
            times, floor = measure(engine, file, project, asked, wanted.rounds)
            budget = BUDGET_MS if kind.endswith("word") and "beginning" not in kind else None
            report(kind, wanted.records, times, floor, budget, as_json=wanted.json)
        with engine.connect() as connection:
            size = connection.exec_driver_sql("SELECT sum(length(block)) FROM record_search_data").scalar_one()
        engine.dispose()
    show("records indexed, search index alone", wanted.records / spent, "records/s", "higher", as_json=wanted.json)
    show("records looked through by the whole job", rate, "records/s", "higher", as_json=wanted.json)
    show("search index per 1,000 records", size / wanted.records, "kB", "lower", as_json=wanted.json)


def report(
    kind: str, number: int, times: list[float], floor: list[float], budget: float | None, *, as_json: bool
) -> None:
    """Print p50 and p95 of a kind of search beside budget and floor."""
    for name, value, least, limit in (
        ("p50", statistics.median(times), statistics.median(floor), None),
        ("p95", percentile(times, 0.95), percentile(floor, 0.95), budget),
    ):
        if as_json:
            line = {
                "bench": "search", "metric": f"{kind}, {name}, {number} records", "value": round(value, 2),
                "unit": "ms", "better": "lower", "budget": limit, "floor": round(least, 2),
                "ratio": round(value / least, 2),
            }  # fmt: skip
            print(json.dumps(line))
        else:
            within = f"   budget {limit:g} ms" if limit else ""
            print(f"{kind}, {name}, {number:,} records: {value:7.2f} ms   floor {least:7.2f} ms{within}", flush=True)


def show(metric: str, value: float, unit: str, better: str, *, as_json: bool) -> None:
    """Print a figure that has neither budget nor floor."""
    if as_json:
        line = {"bench": "search", "metric": metric, "value": round(value, 2), "unit": unit, "better": better}
        print(json.dumps({**line, "budget": None, "floor": None, "ratio": None}))
    else:
        print(f"{metric}: {value:,.1f} {unit}")


if __name__ == "__main__":
    main()
