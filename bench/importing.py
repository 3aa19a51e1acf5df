"""Measure an import against bare executemany of the same rows: records a second, and how many times the floor.

python bench/importing.py --records 20000 [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from sqlalchemy import Engine

from curator.services import imports, projects
from db.session import connect, migrate, open_session

WORDS = ["ticket", "child", "ferry", "return", "fare", "boarding", "Sunday", "timetable", "refund", "bicycle", "cabin"]
HAN = "儿童成人船票退款行李周日时刻表登船自行车舱位优惠"
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(Path(folder) / "log.jsonl", options.records)
        found = [measure(Path(folder) / f"{number}", log, options.records) for number in range(ROUNDS)]
    seconds, cpu, floor = (min(times) for times in list(zip(*found, strict=True))[:3])
    rate, peak = options.records / seconds, found[0][3]  # later rounds hold the rows of the first
    show("records", rate, "records/s", "higher", 10_000, options.records / floor, as_json=options.json)
    show("times bare executemany", seconds / floor, "x", "lower", 3.0, 1.0, as_json=options.json)
    # What a busy machine cannot change: the import's own CPU time.
    show("records per CPU second", options.records / cpu, "records/s", "higher", None, None, as_json=options.json)
    show("peak memory", peak, "MB", "lower", None, None, as_json=options.json)


def write_log(path: Path, records: int) -> Path:
    """Write a log of made-up questions, answers and three passages each; every fourth is Chinese."""
    dice = random.Random(17)  # noqa: S311  made-up text, no secret
    with path.open("w", encoding="utf-8") as file:
        for number in range(records):
            chinese = number % 4 == 0
            file.write(
                json.dumps(row(dice, number, HAN if chinese else WORDS, "" if chinese else " "), ensure_ascii=False)
                + "\n"
            )
    return path


def row(dice: random.Random, number: int, words: str | list[str], gap: str) -> dict[str, object]:
    def say(count: int) -> str:
        return gap.join(dice.choices(words, k=count))

    return {
        "id": f"m{number}", "session_id": f"s{number // 3}", "created_at": "2026-04-02T00:21:52Z",
        "question": f"{say(10)} {number}?", "answer": say(40),
        "contexts": [{"document": "a.pdf", "text": say(60), "score": round(dice.random(), 3)} for _ in range(3)],
        "feedback": dice.choice(["up", "down", None]), "latency_ms": dice.randrange(4000),
    }  # fmt: skip


def measure(folder: Path, log: Path, records: int) -> tuple[float, float, float, float]:
    """Answer the seconds of an import, of its CPU, and of executemany of its rows; and the import's peak MB."""
    folder.mkdir()
    engine = fresh(folder / "import.db")
    with open_session(engine, write=True) as session:
        project = projects.create(session, "Ferry line", slug="ferry")
        source = imports.add_source(session, project, log)
    start, begun = time.perf_counter(), time.process_time()
    done = imports.run_import(engine, source.id or 0)
    seconds, cpu = time.perf_counter() - start, time.process_time() - begun
    assert (done.new, done.duplicate, done.skipped) == (records, 0, 0), done
    peak = peak_memory()
    floor = bare(engine, fresh(folder / "bare.db"))
    engine.dispose()
    return seconds, cpu, floor, peak


def fresh(path: Path) -> Engine:
    engine = connect(f"sqlite:///{path}")
    migrate(engine)
    return engine


def bare(full: Engine, empty: Engine) -> float:
    """Copy the rows into an empty database with executemany: 1,000 records with their passages in a transaction."""
    rows = {name: rows_of(full, name) for name in ("project", "source", "record", "passage")}
    insert = {
        name: f'INSERT INTO "{name}" VALUES ({",".join("?" * len(found[0]))})'  # noqa: S608  our own names
        for name, found in rows.items()
    }
    connection = empty.raw_connection()
    cursor = connection.cursor()
    for name in ("project", "source"):
        cursor.execute(insert[name], rows[name][0])
    start = time.perf_counter()
    for first in range(0, len(rows["record"]), 1_000):
        cursor.execute("BEGIN IMMEDIATE")
        cursor.executemany(insert["record"], rows["record"][first : first + 1_000])
        cursor.executemany(insert["passage"], rows["passage"][3 * first : 3 * first + 3_000])
        cursor.execute("COMMIT")
    seconds = time.perf_counter() - start
    connection.close()
    empty.dispose()
    return seconds


def rows_of(engine: Engine, name: str) -> list[tuple[object, ...]]:
    with engine.connect() as reading:
        query = f'SELECT * FROM "{name}" ORDER BY id'  # noqa: S608  our own names
        return [tuple(row) for row in reading.exec_driver_sql(query)]


def peak_memory() -> float:
    """Answer this process's largest resident set in MB; not getrusage(), which begins with the parent's."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def show(
    metric: str, value: float, unit: str, better: str, budget: float | None, floor: float | None, *, as_json: bool
) -> None:
    if as_json:
        line = {
            "bench": "importing", "metric": metric, "value": round(value, 3), "unit": unit, "better": better,
            "budget": budget, "floor": floor and round(floor, 3), "ratio": floor and round(value / floor, 3),
        }  # fmt: skip
        print(json.dumps(line))
        return
    told = f"   budget {budget:,}" if budget else ""
    print(f"{metric:28} {value:12,.1f} {unit}{told}" + (f"   floor {floor:,.1f}" if floor else ""))


if __name__ == "__main__":
    main()
