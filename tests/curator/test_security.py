"""Nobody gets in who should not: policies, sessions, links, CSRF, headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from curator.errors import CuratorError
from curator.security import HEADERS, policy_of
from curator.services import accounts, projects
from db.models import LoginSession, OneTimeLink, Project, User, utc_now

MakeUser = Callable[..., User]
SignIn = Callable[[User], FlaskClient]
PASSWORD = "correct horse battery"
POLICIES = {"public", "member", "viewer", "reviewer", "lead", "admin"}


def _rules(app: Flask) -> list[tuple[str, str, str]]:
    """Every (endpoint, method, path) with ids filled in."""
    found: list[tuple[str, str, str]] = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<int:[^>]+>", "1", rule.rule).replace("<slug>", "ferry")
        path = re.sub(r"<any\((\w+)[^>]*>", r"\1", path)
        path = re.sub(r"<[^>]+>", "x", path)
        found += [(rule.endpoint, method, path) for method in (rule.methods or set()) & {"GET", "POST"}]
    return found


def test_every_endpoint_declares_its_policy(app: Flask) -> None:
    without = [endpoint for endpoint in app.view_functions if policy_of(app, endpoint) not in POLICIES]
    assert without == []


def test_a_project_page_is_never_for_just_any_member(app: Flask) -> None:
    loose = [
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "slug" in rule.arguments and policy_of(app, rule.endpoint) in ("public", "member")
    ]
    assert loose == []


def test_a_stranger_reaches_public_pages_only(app: Flask, project: Project) -> None:
    client = app.test_client()
    for endpoint, method, path in _rules(app):
        if policy_of(app, endpoint) != "public":
            answer = client.open(path, method=method)
            assert answer.status_code == 303, (endpoint, method)
            assert "/sign-in" in answer.headers["Location"]


RANK = {"viewer": 1, "reviewer": 2, "lead": 3}


@pytest.mark.parametrize("role", ["viewer", "reviewer", "lead"])
def test_a_role_opens_no_more_than_it_should(app: Flask, make_user: MakeUser, sign_in: SignIn, role: str) -> None:
    client = sign_in(make_user(role=role))
    for endpoint, method, path in _rules(app):
        needed = policy_of(app, endpoint)
        if needed == "admin" or RANK.get(str(needed), 0) > RANK[role]:
            assert client.open(path, method=method).status_code == 403, (endpoint, method)


def test_another_projects_pages_look_as_if_they_were_not_there(
    app: Flask, session: Session, make_user: MakeUser, sign_in: SignIn
) -> None:
    client = sign_in(make_user(role="lead"))
    projects.create(session, "Secret", slug="secret")
    session.commit()
    for endpoint, method, path in _rules(app):
        if "/ferry" in path:
            answer = client.open(path.replace("/ferry", "/secret"), method=method)
            assert answer.status_code == 404, (endpoint, method)


def test_a_post_without_its_token_is_refused(app: Flask, project: Project) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    client = app.test_client()
    for endpoint, method, path in _rules(app):
        if method == "POST":
            answer = client.post(path)
            assert answer.status_code == 400, endpoint


def test_reading_changes_nothing_so_get_has_no_side_door(app: Flask) -> None:
    both = [rule.endpoint for rule in app.url_map.iter_rules() if {"GET", "POST"} <= (rule.methods or set())]
    assert both == []


def test_every_answer_carries_the_security_headers(app: Flask, make_user: MakeUser, sign_in: SignIn) -> None:
    client = sign_in(make_user())
    for path in ("/", "/sign-in", "/nowhere", "/p/ferry/", "/static/app.css"):
        answer = client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
        answer.close()
    assert client.get("/p/ferry/").headers["Cache-Control"] == "no-store"


def test_name_and_password_sign_in_and_rotate_the_session(app: Flask, make_user: MakeUser) -> None:
    make_user("noor", password=PASSWORD)
    client = app.test_client()

    first = client.post("/sign-in", data={"login": "Noor", "password": PASSWORD, "next": "/account"})
    second = client.post("/sign-in", data={"login": "noor", "password": PASSWORD})

    assert first.headers["Location"] == "/account"
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert cookie.split(";")[0] != second.headers["Set-Cookie"].split(";")[0]


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)"])
def test_signing_in_never_leads_off_this_site(app: Flask, make_user: MakeUser, target: str) -> None:
    make_user("noor", password=PASSWORD)
    answer = app.test_client().post("/sign-in", data={"login": "noor", "password": PASSWORD, "next": target})
    assert answer.headers["Location"] == "/"


def test_a_wrong_password_is_told_without_saying_what_was_wrong(app: Flask, make_user: MakeUser) -> None:
    make_user("noor", password=PASSWORD)
    client = app.test_client()
    wrong = client.post("/sign-in", data={"login": "noor", "password": "nope"}, follow_redirects=True)
    unknown = client.post("/sign-in", data={"login": "nobody", "password": "nope"}, follow_redirects=True)
    for answer in (wrong, unknown):
        assert "Name or password is not right" in answer.text


def test_guessing_is_slowed_down_and_the_owner_still_gets_in(app: Flask, make_user: MakeUser) -> None:
    make_user("noor", password=PASSWORD)
    client = app.test_client()
    for _ in range(accounts.TRIES_PER_PAIR):
        client.post("/sign-in", data={"login": "noor", "password": "guess"})

    guesser = client.post("/sign-in", data={"login": "noor", "password": PASSWORD})
    owner = client.post(
        "/sign-in", data={"login": "noor", "password": PASSWORD}, environ_base={"REMOTE_ADDR": "10.0.0.7"}
    )

    assert guesser.status_code == 429
    assert owner.status_code == 303


def test_only_a_hash_of_the_token_is_stored(session: Session, make_user: MakeUser) -> None:
    token = accounts.sign_in(session, make_user())
    assert session.exec(select(LoginSession)).one().token_hash != token


def test_signing_out_makes_the_cookie_worthless(app: Flask, make_user: MakeUser, sign_in: SignIn) -> None:
    client = sign_in(make_user())
    cookie = client.get_cookie("curator_session")
    client.post("/sign-out")

    assert cookie is not None
    client.set_cookie("curator_session", cookie.value)
    assert client.get("/p/ferry/").status_code == 303


def test_shutting_somebody_out_ends_their_session_at_once(
    app: Flask, session: Session, make_user: MakeUser, sign_in: SignIn
) -> None:
    person = make_user()
    client = sign_in(person)
    boss = sign_in(make_user("boss", role="", admin=True))

    boss.post(f"/people/{person.id}/disabled", data={"disabled": "true"})

    assert client.get("/p/ferry/").status_code == 303


def test_taking_a_role_away_counts_at_the_next_click(
    session: Session, make_user: MakeUser, sign_in: SignIn, project: Project
) -> None:
    person = make_user(role="lead")
    client = sign_in(person)
    assert client.get("/p/ferry/settings").status_code == 200

    accounts.set_role(session, person, project, "reviewer")
    session.commit()

    assert client.get("/p/ferry/settings").status_code == 403


def test_a_session_ends_by_age_and_by_idleness(app: Flask, session: Session, make_user: MakeUser) -> None:
    token = accounts.sign_in(session, make_user())
    held = session.exec(select(LoginSession)).one()

    held.seen_at = utc_now() - accounts.IDLE - timedelta(minutes=1)
    session.add(held)
    session.flush()
    assert accounts.session_of(session, token) is None

    held.seen_at, held.expires_at = utc_now(), utc_now() - timedelta(seconds=1)
    session.add(held)
    session.flush()
    assert accounts.session_of(session, token) is None


def test_the_setup_link_makes_one_admin_once(app: Flask, session: Session) -> None:
    token, other = accounts.make_link(session, "setup"), accounts.make_link(session, "setup")
    session.commit()
    form = {"login": "ada", "name": "Ada", "password": PASSWORD}
    client = app.test_client()

    assert "You are the first one here" in client.get(f"/setup/{token}").text
    assert client.post(f"/setup/{token}", data=form).status_code == 303
    assert client.get("/people/").status_code == 200
    again = app.test_client().post(f"/setup/{other}", data={**form, "login": "eve"})
    assert again.status_code == 403


def test_a_short_password_keeps_the_setup_link(app: Flask, session: Session) -> None:
    token = accounts.make_link(session, "setup")
    session.commit()
    answer = app.test_client().post(f"/setup/{token}", data={"login": "ada", "name": "Ada", "password": "short"})
    assert answer.status_code == 422
    assert "at least 8 characters" in answer.text
    assert accounts.link_is_good(session, token, "setup")


def test_a_sign_in_link_works_once_and_only_when_pressed(app: Flask, session: Session, make_user: MakeUser) -> None:
    token = accounts.make_link(session, "sign-in", make_user())
    session.commit()
    client = app.test_client()

    client.get(f"/link/{token}")
    assert client.get("/p/ferry/").status_code == 303  # looking at it signs nobody in
    assert client.post(f"/link/{token}").status_code == 303
    assert client.get("/p/ferry/").status_code == 200
    assert app.test_client().post(f"/link/{token}").status_code == 404


def test_an_old_link_is_refused(session: Session, make_user: MakeUser) -> None:
    token = accounts.make_link(session, "sign-in", make_user())
    link = session.exec(select(OneTimeLink)).one()
    link.expires_at = utc_now() - timedelta(seconds=1)
    session.add(link)
    session.flush()
    with pytest.raises(CuratorError, match="expired"):
        accounts.use_link(session, token, "sign-in")


def test_a_name_from_outside_is_never_run(app: Flask, session: Session, make_user: MakeUser, sign_in: SignIn) -> None:
    person = make_user(role="", admin=True)
    person.name = "<script>alert(1)</script>"
    session.add(person)
    session.commit()
    page = sign_in(person).get("/people/").text
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_session_in_use_does_not_idle_out(
    session: Session, make_user: MakeUser, sign_in: SignIn, method: str
) -> None:
    """A reviewer at the desk may send POSTs only, all day long."""
    client = sign_in(make_user(role="lead"))
    held = session.exec(select(LoginSession)).one()
    held.seen_at = before = utc_now() - accounts.IDLE + timedelta(minutes=1)
    session.add(held)
    session.commit()

    form = {"name": "Ferry line"} if method == "POST" else None
    assert client.open("/p/ferry/settings", method=method, data=form).status_code in (200, 303)

    session.refresh(held)
    assert held.seen_at > before + timedelta(hours=1)


def test_a_full_database_still_shows_pages(
    session: Session, make_user: MakeUser, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in(make_user())
    held = session.exec(select(LoginSession)).one()
    held.seen_at = utc_now() - timedelta(hours=1)
    session.add(held)
    session.commit()

    def full(*_: object) -> None:
        raise OperationalError("", {}, Exception("database or disk is full"))

    monkeypatch.setattr(accounts, "touch", full)
    assert client.get("/p/ferry/").status_code == 200
