"""What every route relies on: the commit rule, forms in plain words, errors as sentences, paths that stay here."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Literal

import pytest
from flask import Flask, Response, g
from flask.testing import FlaskClient
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from curator import web
from curator.errors import Conflict, Invalid, NotFound
from curator.security import policy
from curator.services import accounts, projects
from db.models import Project

HTMX = {"HX-Request": "true"}
CHINESE = {"Accept-Language": "zh-CN"}


class Form(BaseModel):
    name: str = Field(min_length=1, max_length=5)
    kind: Literal["sft", "preference"] = "sft"
    rating: int | None = Field(None, ge=1, le=5)
    epochs: float | None = Field(None, gt=0)
    reasons: list[str] = []
    comment: str = "none"


@pytest.fixture
def route(app: Flask) -> Callable[[Callable[[], Any]], FlaskClient]:
    """Answer a client of an app with one more public page, POST /tried, that does what it is told."""

    def add(view: Callable[[], Any], method: str = "POST") -> FlaskClient:
        app.add_url_rule("/tried", "tried", policy("public")(view), methods=[method])
        return app.test_client()

    return add


def slugs(session: Session) -> list[str]:
    session.rollback()
    return sorted(session.exec(select(Project.slug)))


@pytest.mark.parametrize(("status", "kept"), [(200, True), (303, True), (399, True), (400, False), (422, False)])
def test_an_answer_below_400_is_kept_and_any_other_is_not(
    route: Callable[..., FlaskClient], session: Session, status: int, kept: bool
) -> None:
    def view() -> Response:
        projects.create(web.session(), "Harbour")
        return Response("", status)

    assert route(view).post("/tried").status_code == status
    assert slugs(session) == (["harbour"] if kept else [])


def test_an_error_after_writing_keeps_nothing(route: Callable[..., FlaskClient], session: Session) -> None:
    def view() -> Response:
        projects.create(web.session(), "Harbour")
        raise Conflict("Somebody was faster.")

    assert route(view).post("/tried").status_code == 409
    assert slugs(session) == []


def test_reading_never_writes(route: Callable[..., FlaskClient], session: Session) -> None:
    def view() -> str:
        projects.create(web.session(), "Harbour")
        return "read"

    assert route(view, "GET").get("/tried").status_code == 200
    assert slugs(session) == []


def test_a_database_that_is_full_at_commit_is_told_as_such_and_the_next_request_works(
    route: Callable[..., FlaskClient], session: Session, app: Flask, settings: Any
) -> None:
    """A full disk shows at the commit, after the route has answered."""

    def view() -> str:
        projects.create(web.session(), "Harbour")
        held = web.session()

        def full() -> None:
            held.rollback()
            raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

        held.commit = full  # pyright: ignore[reportAttributeAccessIssue]
        return "saved"

    client = route(view)
    htmx, plain = client.post("/tried", headers=HTMX), client.post("/tried")

    assert (htmx.status_code, plain.status_code) == (507, 507)
    assert htmx.headers["HX-Retarget"] == "#problem"
    assert "The disk is full. Nothing saved before is lost" in htmx.text
    assert "Content-Security-Policy" in plain.headers
    assert slugs(session) == []
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Conflict("Version %(number)d is not published.", number=3), 409, "Version 3 is not published."),
        (NotFound("There is no such run."), 404, "There is no such run."),
        (OperationalError("", {}, Exception("database is locked")), 503, "The database was busy"),
        (OperationalError("", {}, Exception("database or disk is full")), 507, "The disk is full"),
        (OperationalError("", {}, Exception("no such table: x")), 500, "was logged"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "The disk is full"),
        (OSError(errno.EIO, "secret path"), 500, "was logged"),
        (OverflowError("Python int too large"), 404, "There is no such page."),
    ],
)
def test_an_error_is_a_notice_for_htmx_and_a_page_without(
    route: Callable[..., FlaskClient], error: Exception, status: int, said: str
) -> None:
    def view() -> str:
        raise error

    client = route(view)
    htmx, plain = client.post("/tried", headers=HTMX), client.post("/tried")

    assert (htmx.status_code, plain.status_code) == (status, status)
    assert said in htmx.text
    assert said in plain.text
    assert htmx.headers["HX-Retarget"] == "#problem"
    assert htmx.text.lstrip().startswith('<div id="problem"')
    assert "<html" in plain.text
    assert "secret path" not in plain.text


def test_a_database_too_busy_to_say_who_asks_still_answers_a_page(
    app: Flask, make_user: Any, sign_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in(make_user())

    def locked(*_: object) -> None:
        raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))

    monkeypatch.setattr(accounts, "session_of", locked)
    for headers in ({}, HTMX):
        for answer in (client.post("/p/ferry/settings", headers=headers), client.get("/p/ferry/", headers=headers)):
            assert answer.status_code == 503
            assert "The database was busy" in answer.text


def test_a_mistake_of_ours_is_logged_and_says_so_without_its_words(app: Flask) -> None:
    def view() -> str:
        raise KeyError("inner words")

    app.add_url_rule("/tried", "tried", policy("public")(view))
    app.testing = False
    app.config["PROPAGATE_EXCEPTIONS"] = False

    answer = app.test_client().get("/tried")

    assert answer.status_code == 500
    assert "Something went wrong here and was logged" in answer.text
    assert "inner words" not in answer.text


def test_a_number_no_database_counts_to_names_nothing(make_user: Any, sign_in: Any) -> None:
    client = sign_in(make_user("lea", "lead"))
    for path in ("records", "runs", "sources", "datasets", "battles"):
        assert client.get(f"/p/ferry/{path}/{10**30}").status_code == 404, path
    assert client.post("/p/ferry/people", data={"user_id": str(10**30), "role": "lead"}).status_code == 404


@pytest.mark.parametrize(
    ("data", "said", "chinese"),
    [
        ({}, "Please check “name”: it is missing.", "名称"),
        ({"name": ""}, "Please check “name”: it is missing.", "名称"),
        ({"name": "abcdef"}, "“name”: it is longer than 5 characters.", "5"),
        ({"name": "a", "kind": "x"}, "“kind”: it is not one of the choices.", ""),
        ({"name": "a", "rating": "good"}, "“rating”: it is not a number.", ""),
        ({"name": "a", "rating": "6"}, "“rating”: it must be at most 5.", "5"),
        ({"name": "a", "rating": "0"}, "“rating”: it must be at least 1.", "1"),
        ({"name": "a", "epochs": "0"}, "“Times it reads every answer”: it must be more than 0.", "0"),
        ({"name": "a", "epochs": "nan"}, "“Times it reads every answer”: it must be more than 0.", ""),
    ],
)
def test_what_is_wrong_with_a_form_is_said_in_plain_words(
    route: Callable[..., FlaskClient], data: dict[str, str], said: str, chinese: str
) -> None:
    def view() -> str:
        web.parse_form(Form)
        return "fine"

    client = route(view)
    english, translated = client.post("/tried", data=data), client.post("/tried", data=data, headers=CHINESE)

    assert (english.status_code, translated.status_code) == (422, 422)
    assert said in english.text
    assert said not in translated.text
    assert chinese in translated.text
    for raw in ("Input should", "String should", "Field required"):
        assert raw not in english.text + translated.text


def test_a_form_reads_lists_lines_and_what_was_left_empty(route: Callable[..., FlaskClient]) -> None:
    def view() -> dict[str, Any]:
        return web.parse_form(Form).model_dump()

    data = {"name": "a\r\nb\0", "rating": "", "comment": "", "reasons": ["x", "y"], "unknown": "1", "id": "7"}

    assert route(view).post("/tried", data=data).json == {
        "name": "a\nb", "kind": "sft", "rating": None, "epochs": None, "reasons": ["x", "y"], "comment": "none",
    }  # fmt: skip


def test_a_word_inside_a_sentence_is_translated_too(route: Callable[..., FlaskClient]) -> None:
    def view() -> str:
        raise Invalid("Version %(number)d is %(state)s already.", number=3, state="retired")

    client = route(view)
    assert "Version 3 is retired already." in client.post("/tried").text
    assert "retired" not in client.post("/tried", headers=CHINESE).text


@pytest.mark.parametrize(
    ("target", "safe"),
    [
        ("/p/ferry/", "/p/ferry/"), ("/a?b=c#d", "/a?b=c#d"), (None, "/"), ("", "/"), ("//evil.example", "/"),
        ("/\\evil.example", "/"), ("https://evil.example", "/"), ("javascript:alert(1)", "/"), ("a/b", "/"),
        ("/ok\nSet-Cookie: x", "/"), ("/\t/evil.example", "/"), ("/\r/evil.example", "/"),
    ],
)  # fmt: skip
def test_a_path_from_outside_stays_on_this_site(app: Flask, target: str | None, safe: str) -> None:
    with app.test_request_context():
        assert web.safe_path(target) == safe


def test_a_referrer_from_elsewhere_leads_home(app: Flask) -> None:
    for referrer, back in (("http://localhost/p/ferry/", "http://localhost/p/ferry/"), ("http://localhost.evil/", "/")):
        with app.test_request_context(headers={"Referer": referrer}):
            assert web.came_from() == back


def test_a_fragment_carries_its_notice_and_without_javascript_there_is_a_page(
    route: Callable[..., FlaskClient],
) -> None:
    def view() -> Any:
        web.notify("Saved & kept.", undo="/undo")
        return web.fragment("_problem.html", back="/sign-in", sentence="Look.")

    client = route(view)
    htmx, plain = client.post("/tried", headers=HTMX), client.post("/tried", follow_redirects=True)

    assert "Saved &amp; kept." in htmx.text
    assert 'hx-post="/undo"' in htmx.text
    assert plain.request.path == "/sign-in"
    assert "Saved &amp; kept." in plain.text


def test_going_elsewhere_takes_the_notice_along(route: Callable[..., FlaskClient]) -> None:
    def view() -> Any:
        web.notify("Saved.")
        return web.go("/sign-in")

    client = route(view)
    htmx = client.post("/tried", headers=HTMX)
    assert (htmx.status_code, htmx.headers["HX-Redirect"]) == (200, "/sign-in")
    assert "Saved." in client.get("/sign-in").text
    assert client.post("/tried").status_code == 303
    assert "Saved." in client.get("/sign-in").text


def test_the_session_of_a_request_is_closed_with_it(route: Callable[..., FlaskClient]) -> None:
    held: list[Session] = []

    def view() -> str:
        held.append(web.session())
        assert "session" in g
        return "fine"

    route(view).post("/tried")
    assert not held[0].in_transaction()


def test_pages_that_are_not_there_or_not_asked_that_way_say_so(app: Flask) -> None:
    client = app.test_client()
    assert "There is no such page." in client.get("/nowhere").text
    wrong = client.get("/sign-out")
    assert wrong.status_code == 405
    assert "cannot be asked that way" in wrong.text


def test_too_large_a_body_is_told(app: Flask, project: Project) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 1000
    answer = app.test_client().post("/sign-in", data={"login": "a", "password": "x" * 5000})
    assert answer.status_code == 413
    assert "too large" in answer.text
