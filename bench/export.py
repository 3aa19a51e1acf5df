"""Measure the export of a snapshot to ShareGPT: seconds, peak memory, and how many times a bare dump of the same rows.

python bench/export.py --examples 100000 [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from curator.services import exports, projects, snapshots
from curator.services.bulk import Insert
from db.models import ExampleContent, Record, Snapshot, SnapshotExample, Source
from db.session import connect, migrate, open_session

ANSWER = "Children under 7 travel free with a paying adult, at most three per adult. 七岁以下儿童免费乘船。 " * 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--database", help=argparse.SUPPRESS)  # the measured process, alone with its memory
    options = parser.parse_args()
    if options.database:
        print(json.dumps(measure(Path(options.database))))
        return
    with tempfile.TemporaryDirectory() as folder:
        database = fill(Path(folder) / "curator.db", options.examples)
        command = [sys.executable, __file__, "--database", str(database)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603  ourselves
    assert found["examples"] == options.examples
    show("seconds", found["seconds"], "s", 5.0, found["floor"], as_json=options.json)
    show("peak memory", found["peak"], "MB", 150.0, None, as_json=options.json)


def fill(path: Path, examples: int) -> Path:
    """Make a database with one snapshot of that many examples, all of one record."""
    engine = connect(f"sqlite:///{path}")
    migrate(engine)
    with open_session(engine, write=True) as session:
        project = projects.create(session, "Ferry line", slug="ferry")
        source = Source(project_id=project.id or 0, name="log", importer="qa-table")
        session.add(source)
        session.flush()
        record = Record(project_id=project.id or 0, source_id=source.id or 0, digest="d", group="g")
        snapshot = Snapshot(
            project_id=project.id or 0, name="v1", sha256="", seed=17, train=examples, val=0, test=0,
        )  # fmt: skip
        session.add_all([record, snapshot])
        session.flush()
        connection, dialect = session.connection(), engine.dialect
        contents = [(sha256(body.encode()).hexdigest(), body) for body in map(body_of, range(examples))]
        Insert(ExampleContent.__table__, ("sha256", "body"), dialect).run(connection, contents)
        columns = ("snapshot_id", "position", "content_sha256", "record_id", "group", "split")
        places = (
            (snapshot.id, place, key, record.id, "g", snapshots.SPLITS[place % 10 // 8 + place % 10 // 9])
            for place, (key, _) in enumerate(sorted(contents))
        )
        Insert(SnapshotExample.__table__, columns, dialect).run(connection, places)
    engine.dispose()
    return path


def body_of(number: int) -> str:
    messages = [
        {"role": "system", "content": "You answer passengers of a ferry line. Be brief and exact."},
        {"role": "user", "content": f"Does child number {number} need a ticket?"},
        {"role": "assistant", "content": ANSWER},
    ]
    return json.dumps({"messages": messages}, ensure_ascii=False, separators=(",", ":"))


def measure(database: Path) -> dict[str, float]:
    """Export, then dump the same rows with nothing in between."""
    engine = connect(f"sqlite:///{database}")
    with open_session(engine) as session:
        snapshot = session.get_one(Snapshot, 1)
        start = time.perf_counter()
        files = exports.export(session, snapshot, "sharegpt", database.parent / "out")
        seconds = time.perf_counter() - start
    peak = peak_memory()
    examples = 0
    for file in files:
        if file.suffix == ".jsonl":
            with file.open("rb") as lines:
                examples += sum(1 for _ in lines)
    start = time.perf_counter()
    with engine.connect() as connection, (database.parent / "bare.jsonl").open("w", encoding="utf-8") as file:
        query = "SELECT body FROM snapshot_example JOIN example_content ON sha256 = content_sha256 ORDER BY position"
        for (body,) in connection.exec_driver_sql(query):
            file.write(json.dumps(json.loads(body), ensure_ascii=False) + "\n")
    return {"seconds": seconds, "peak": peak, "examples": examples, "floor": time.perf_counter() - start}


def peak_memory() -> float:
    """Answer this process's largest resident set in MB; not getrusage(), which begins with the parent's."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def show(metric: str, value: float, unit: str, budget: float, floor: float | None, *, as_json: bool) -> None:
    if as_json:
        line = {
            "bench": "export", "metric": metric, "value": round(value, 3), "unit": unit, "better": "lower",
            "budget": budget, "floor": floor and round(floor, 3), "ratio": floor and round(value / floor, 3),
        }  # fmt: skip
        print(json.dumps(line))
        return
    print(f"{metric:28} {value:12,.1f} {unit}   budget {budget:,}" + (f"   floor {floor:,.1f}" if floor else ""))


if __name__ == "__main__":
    main()
