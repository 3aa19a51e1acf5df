"""Accounts, for admins."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlmodel import Session, select

from db.models import Journal, OneTimeLink, User


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    return make_user("boss", "", admin=True)


@pytest.fixture
def boss(admin: User, sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(admin)


def link_in(page: str) -> str:
    found = re.search(r"http://[^\s\"<]+(/link/[\w-]+)", page)
    assert found, page
    return found[1]


def test_a_new_person_comes_in_by_the_link_that_is_shown_once(app: Flask, boss: FlaskClient, session: Session) -> None:
    page = boss.post("/people/", data={"login": "Noor", "name": "Noor"})
    path = link_in(page.text)

    assert page.status_code == 200
    assert session.exec(select(User).where(User.login == "noor")).one().is_admin is False
    assert path.rpartition("/")[2] not in boss.get("/people/").text
    token_hash = session.exec(select(OneTimeLink.token_hash)).one()
    assert token_hash not in path
    session.rollback()
    client = app.test_client()
    assert client.post(path).status_code == 303
    assert client.get("/account").status_code == 200
    assert app.test_client().post(path).status_code == 404


@pytest.mark.parametrize("login", ["", "../x", "a b", "名字", "<b>", "x" * 200])
def test_a_sign_in_name_that_cannot_be_is_refused(boss: FlaskClient, session: Session, login: str) -> None:
    assert boss.post("/people/", data={"login": login}).status_code == 422
    assert len(session.exec(select(User)).all()) == 1


def test_a_taken_sign_in_name_is_refused_whatever_its_case(boss: FlaskClient, session: Session) -> None:
    answer = boss.post("/people/", data={"login": "BOSS"})
    assert answer.status_code == 409
    assert "boss is taken" in answer.text
    assert session.exec(select(Journal)).all() == []


def test_a_form_cannot_make_itself_an_admin_or_bring_a_password(boss: FlaskClient, session: Session) -> None:
    boss.post("/people/", data={"login": "eve", "is_admin": "1", "admin": "true", "password_hash": "x"})
    eve = session.exec(select(User).where(User.login == "eve")).one()
    assert (eve.is_admin, eve.password_hash) == (False, "")


def test_an_admin_cannot_shut_themself_out(boss: FlaskClient, admin: User, session: Session) -> None:
    assert boss.post(f"/people/{admin.id}/disabled", data={"disabled": "true"}).status_code == 403
    assert boss.get("/people/").status_code == 200


def test_shutting_out_and_letting_in_again(
    boss: FlaskClient, make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient], session: Session
) -> None:
    person = make_user()
    client = sign_in(person)

    boss.post(f"/people/{person.id}/disabled", data={"disabled": "true"})
    assert client.get("/account").status_code == 303
    boss.post(f"/people/{person.id}/disabled", data={"disabled": "false"})

    assert client.get("/account").status_code == 303, "the old session stays ended"
    assert sign_in(person).get("/account").status_code == 200
    assert session.exec(select(Journal.action)).all() == ["disabled", "enabled"]


def test_a_link_of_somebody_shut_out_lets_nobody_in(
    app: Flask, boss: FlaskClient, make_user: Callable[..., User]
) -> None:
    person = make_user()
    path = link_in(boss.post(f"/people/{person.id}/link").text)
    boss.post(f"/people/{person.id}/disabled", data={"disabled": "true"})

    client = app.test_client()
    assert client.post(path).status_code == 404
    assert client.get("/account").status_code == 303

    boss.post(f"/people/{person.id}/disabled", data={"disabled": "false"})
    assert app.test_client().post(path).status_code == 404


@pytest.mark.parametrize("path", ["/people/99/link", "/people/99/disabled"])
def test_somebody_who_is_not_there_is_not_found(boss: FlaskClient, path: str) -> None:
    assert boss.post(path, data={"disabled": "true"}).status_code == 404


def test_a_lead_sees_none_of_it(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]) -> None:
    lead = sign_in(make_user(role="lead"))
    assert lead.get("/people/").status_code == 403
    assert lead.post("/people/", data={"login": "eve"}).status_code == 403
