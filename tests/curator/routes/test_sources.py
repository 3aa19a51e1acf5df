"""Bringing in logs through the pages: choose, look, map, import; and what bad files are answered."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlmodel import Session, select
from werkzeug.test import TestResponse

from curator.services import projects
from curator.settings import Settings
from curator.worker import Worker
from db.models import Job, Project, Record, Source, User
from tests.factories import make_source

LOG = b"question,answer\nAre dogs free?,Yes.\nAnd cats?,Yes too.\n"


@pytest.fixture
def lead(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(make_user("lea", "lead"))


def upload(client: FlaskClient, content: bytes, name: str = "log.csv", **more: object) -> TestResponse:
    return client.post("/p/ferry/sources/", data={"file": (io.BytesIO(content), name)}, **more)


def token_of(answer: TestResponse) -> str:
    return answer.headers["Location"].split("file=")[1].split("&")[0]


def uploads(settings: Settings) -> list[Path]:
    return [path for path in settings.folder("uploads").rglob("*") if path.is_file()]


def begin(client: FlaskClient, content: bytes = LOG, **form: str) -> TestResponse:
    token = token_of(upload(client, content))
    return client.post("/p/ferry/sources/new", data={"file": token, "name": "log.csv", **form})


def test_a_log_goes_from_the_file_to_records(
    lead: FlaskClient, session: Session, engine: Engine, settings: Settings, project: Project
) -> None:
    seen = upload(lead, LOG)
    page = lead.get(seen.headers["Location"]).text
    begun = lead.post("/p/ferry/sources/new", data={"file": token_of(seen), "name": "log.csv"})
    Worker(settings, "light", engine=engine).run_until_idle()

    assert seen.status_code == begun.status_code == 303
    assert "Are dogs free?" in page
    source = session.exec(select(Source)).one()
    assert begun.headers["Location"].endswith(f"/p/ferry/sources/{source.id}")
    assert (source.state, source.new, source.name) == ("done", 2, "log.csv")
    assert set(session.exec(select(Record.question))) == {"Are dogs free?", "And cats?"}
    assert "log.csv" in lead.get("/p/ferry/sources/").text
    for path in ("", "/status"):
        assert lead.get(f"/p/ferry/sources/{source.id}{path}").status_code == 200


def test_choosing_no_file_or_an_empty_one_is_told(lead: FlaskClient, settings: Settings) -> None:
    none = lead.post("/p/ferry/sources/", data={})
    empty = upload(lead, b"")

    assert (none.status_code, empty.status_code) == (422, 422)
    assert "choose a file first" in none.text
    assert "The file is empty" in empty.text
    assert uploads(settings) == []


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "log.jsonl", "The file is not text."),
        (b"%PDF-1.7\n" + b"x" * 500, "log.jsonl", "The file is a PDF"),
        (b"PK\x03\x04" + b"\0" * 200, "log.xlsx", "Excel workbook"),
        (b"\x1f\x8b\x08" + b"\0" * 200, "log.jsonl.gz", "The file is compressed"),
    ],
)
def test_what_is_no_log_is_said_on_its_page_and_not_imported(
    lead: FlaskClient, session: Session, content: bytes, name: str, said: str
) -> None:
    seen = upload(lead, content, name)
    page = lead.get(seen.headers["Location"])
    begun = lead.post("/p/ferry/sources/new", data={"file": token_of(seen), "name": name})

    assert page.status_code == 200
    assert said in page.text
    assert begun.status_code == 422
    assert said in begun.text
    assert session.exec(select(Source)).all() == []
    assert session.exec(select(Job)).all() == []


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "gb18030", "utf-8-sig"])
def test_chinese_tables_arrive_whole_in_any_of_their_encodings(
    lead: FlaskClient, session: Session, engine: Engine, settings: Settings, encoding: str
) -> None:
    begin(lead, "question,answer\n渡轮什么时候开？,每小时一班。\n".encode(encoding))
    Worker(settings, "light", engine=engine).run_until_idle()

    assert session.exec(select(Record.question)).all() == ["渡轮什么时候开？"]


def test_a_broken_line_costs_that_line_only(
    lead: FlaskClient, session: Session, engine: Engine, settings: Settings
) -> None:
    rows = [b'{"question": "One?", "answer": "1"}', b'{"question": "br', b'{"question": "Two?", "answer": "2"}']
    begin(lead, b"\n".join(rows))
    Worker(settings, "light", engine=engine).run_until_idle()

    source = session.exec(select(Source)).one()
    assert (source.state, source.new, source.skipped) == ("done", 2, 1)
    assert "Line 2" in lead.get(f"/p/ferry/sources/{source.id}").text


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\x", "/etc/passwd", "a\0b.csv", "x" * 5000 + ".csv"])
def test_an_uploads_name_is_a_label_and_never_a_path(
    lead: FlaskClient, session: Session, settings: Settings, project: Project, name: str
) -> None:
    seen = upload(lead, LOG, name)
    lead.post("/p/ferry/sources/new", data={"file": token_of(seen), "name": name[:200]})

    assert [path.parent for path in uploads(settings)] == [settings.home / "uploads" / str(project.id)]
    source = session.exec(select(Source)).one()
    assert Path(source.path).name == token_of(seen)


@pytest.mark.parametrize("token", ["../../curator.db", "..", "", "0" * 32, "%2e%2e"])
def test_a_token_that_was_not_given_out_opens_nothing(lead: FlaskClient, token: str) -> None:
    looked = lead.get("/p/ferry/sources/new", query_string={"file": token})
    begun = lead.post("/p/ferry/sources/new", data={"file": token})
    assert (looked.status_code, begun.status_code) == (404, 404)
    assert "This upload is gone" in looked.text


def test_an_upload_of_one_project_is_not_there_for_another(
    lead: FlaskClient, session: Session, make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]
) -> None:
    token = token_of(upload(lead, LOG))
    projects.create(session, "Other", slug="other")
    session.commit()
    boss = sign_in(make_user("boss", "", admin=True))

    assert boss.get(f"/p/ferry/sources/new?file={token}").status_code == 200
    assert boss.get(f"/p/other/sources/new?file={token}").status_code == 404


def test_another_projects_import_is_not_shown(lead: FlaskClient, session: Session) -> None:
    other = projects.create(session, "Other", slug="other")
    source = make_source(session, other)
    assert lead.get(f"/p/ferry/sources/{source.id}").status_code == 404
    assert lead.get(f"/p/ferry/sources/{source.id}/status").status_code == 404


def test_a_mapping_by_hand_is_followed_and_a_wrong_one_is_told(
    lead: FlaskClient, session: Session, engine: Engine, settings: Settings
) -> None:
    table = b"ask,reply\nAre dogs free?,Yes.\n"
    wrong = begin(lead, table, importer="qa-table", **{"map.question": "nope", "map.answer": "reply"})
    right = begin(lead, table, importer="qa-table", **{"map.question": "ask", "map.answer": "reply"})
    Worker(settings, "light", engine=engine).run_until_idle()

    assert wrong.status_code == 422
    assert "nope" in wrong.text
    assert right.status_code == 303
    assert session.exec(select(Record.question)).all() == ["Are dogs free?"]


def test_an_importer_nobody_wrote_is_told(lead: FlaskClient) -> None:
    assert begin(lead, importer="../x").status_code in (404, 422)


def test_what_a_file_says_is_text_on_the_page_and_never_markup_or_a_placeholder(
    lead: FlaskClient, session: Session, project: Project
) -> None:
    said = 'The file has no column “<script>alert("100%s")</script>”.'
    source = make_source(
        session, project, state="failed", error=said, skipped=1, skips=[{"line": 3, "reason": "<b>50%</b> of it"}]
    )
    for path in ("", "/status"):
        page = lead.get(f"/p/ferry/sources/{source.id}{path}")
        assert page.status_code == 200
        assert "<script>alert(" not in page.text
        assert "&lt;script&gt;alert(" in page.text
        assert "&lt;b&gt;50%&lt;/b&gt;" in page.text


def test_a_viewer_may_look_but_not_bring_in(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]):
    viewer = sign_in(make_user("vi", "viewer"))
    assert viewer.get("/p/ferry/sources/").status_code == 200
    assert upload(viewer, LOG).status_code == 403


def test_a_full_disk_while_uploading_is_told_and_leaves_no_half_file(
    lead: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import shutil

    def full(source: object, target: io.BytesIO, _size: int) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    answer = upload(lead, LOG, headers={"HX-Request": "true"})

    assert answer.status_code == 507
    assert "The disk is full" in answer.text
    assert answer.headers["HX-Retarget"] == "#problem"
    assert uploads(settings) == []
