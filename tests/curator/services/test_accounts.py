"""People: names, passwords, sessions, links, roles."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlmodel import Session, select

from curator.errors import Conflict, Invalid, NotFound, TooMany
from curator.services import accounts
from db.models import LoginAttempt, LoginSession, Project, User, utc_now

PASSWORD = "correct horse battery"
MakeUser = Callable[..., User]


def test_a_sign_in_name_is_kept_small_and_once(session: Session) -> None:
    made = accounts.create_user(session, "  Noor ", "  Noor A. ")
    assert (made.login, made.name) == ("noor", "Noor A.")
    with pytest.raises(Conflict):
        accounts.create_user(session, "NOOR", "Another")
    assert accounts.by_login(session, " Noor").id == made.id


@pytest.mark.parametrize("login", ["", "../x", "a b", "-a", "名字", "a" * 81])
def test_a_sign_in_name_that_cannot_be_is_refused(session: Session, login: str) -> None:
    with pytest.raises(Invalid):
        accounts.create_user(session, login, "x")


def test_a_password_is_kept_as_a_hash_and_checked(session: Session, make_user: MakeUser) -> None:
    person = make_user("noor", password=PASSWORD)
    assert PASSWORD not in person.password_hash
    found = accounts.authenticate(session, "NOOR", PASSWORD, "10.0.0.1")
    assert found is not None
    assert found.id == person.id
    assert accounts.authenticate(session, "noor", PASSWORD + "x", "10.0.0.1") is None
    assert accounts.authenticate(session, "noor", "", "10.0.0.1") is None


@pytest.mark.parametrize("password", ["short", "noor@home", "NOOR@HOME"])
def test_a_password_that_is_short_or_the_name_is_refused(session: Session, make_user: MakeUser, password: str) -> None:
    with pytest.raises(Invalid):
        accounts.set_password(session, make_user("noor@home"), password)


def test_somebody_without_a_password_or_shut_out_does_not_come_in_by_one(session: Session, make_user: MakeUser) -> None:
    make_user("linked")
    gone = make_user("gone", password=PASSWORD)
    accounts.disable(session, gone, disabled=True)
    assert accounts.authenticate(session, "linked", "", "a") is None
    assert accounts.authenticate(session, "gone", PASSWORD, "a") is None


def test_a_new_password_ends_every_session_of_that_person_alone(session: Session, make_user: MakeUser) -> None:
    noor, lea = make_user("noor"), make_user("lea")
    accounts.sign_in(session, noor)
    token = accounts.sign_in(session, lea)
    accounts.set_password(session, noor, PASSWORD)
    assert session.exec(select(LoginSession.user_id)).all() == [lea.id]
    assert accounts.session_of(session, token) is not None


@pytest.mark.parametrize("limit", ["pair", "address"])
def test_tries_are_counted_and_forgotten_after_a_while(session: Session, make_user: MakeUser, limit: str) -> None:
    make_user("noor", password=PASSWORD)
    many = accounts.TRIES_PER_PAIR if limit == "pair" else accounts.TRIES_PER_ADDRESS
    login = (lambda _number: "noor") if limit == "pair" else (lambda number: f"guess{number}")
    session.add_all(LoginAttempt(login=login(number), address="a") for number in range(many))
    session.flush()
    with pytest.raises(TooMany):
        accounts.authenticate(session, "noor", PASSWORD, "a")
    assert accounts.authenticate(session, "noor", PASSWORD, "b") is not None

    for tried in session.exec(select(LoginAttempt)):
        tried.at = utc_now() - accounts.WINDOW - timedelta(seconds=1)
    session.flush()
    assert accounts.authenticate(session, "noor", PASSWORD, "a") is not None


def test_signing_in_sweeps_sessions_that_are_over(session: Session, make_user: MakeUser) -> None:
    person = make_user()
    accounts.sign_in(session, person)
    session.exec(select(LoginSession)).one().expires_at = utc_now() - timedelta(seconds=1)
    session.flush()
    accounts.sign_in(session, person)
    assert len(session.exec(select(LoginSession)).all()) == 1


def test_a_link_is_for_one_purpose_and_once(session: Session, make_user: MakeUser) -> None:
    token = accounts.make_link(session, "sign-in", make_user())
    with pytest.raises(NotFound):
        accounts.use_link(session, token, "setup")
    assert accounts.link_is_good(session, token, "sign-in")
    accounts.use_link(session, token, "sign-in")
    assert not accounts.link_is_good(session, token, "sign-in")
    with pytest.raises(NotFound):
        accounts.use_link(session, token, "sign-in")


def test_roles_are_given_changed_and_taken(session: Session, make_user: MakeUser, project: Project) -> None:
    person, boss = make_user("noor", ""), make_user("boss", "", admin=True)
    found: list[str | None] = []
    for role in ("viewer", "lead", "", ""):
        accounts.set_role(session, person, project, role)
        session.flush()
        found.append(accounts.role_in(session, person, project))
    assert found == ["viewer", "lead", None, None]
    assert accounts.role_in(session, boss, project) == "admin"
    with pytest.raises(Invalid):
        accounts.set_role(session, person, project, "admin")
