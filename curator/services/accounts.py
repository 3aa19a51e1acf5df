"""People: who they are, how they prove it, what they may do in which project."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlmodel import Session, col, delete, func, select, update

from curator.errors import Conflict, Forbidden, Invalid, NotFound, TooMany
from curator.services import jobs
from db.models import LoginAttempt, LoginSession, Membership, OneTimeLink, Project, User, utc_now

IDLE = timedelta(hours=8)
TOUCH_EVERY = timedelta(minutes=5)  # precise enough, and spares a write per request
ABSOLUTE = timedelta(days=7)
WINDOW = timedelta(minutes=15)
TRIES_PER_PAIR, TRIES_PER_ADDRESS, TRIES_PER_LOGIN = 5, 30, 100
SHORTEST_PASSWORD = 8

RANKS = {"viewer": 1, "reviewer": 2, "lead": 3, "admin": 4}


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobody() -> str:
    """Answer a hash of nothing anyone types, so that an unknown name takes as long as a wrong password."""
    return _hasher().hash(secrets.token_hex(16))


def digest(token: str) -> str:
    """Answer what is stored of a secret token."""
    return hashlib.sha256(token.encode()).hexdigest()


def create_user(session: Session, login: str, name: str, password: str = "", *, admin: bool = False) -> User:
    """Add a person. Without a password they come in by one-time links only."""
    login = login.strip().lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9._@+-]{0,79}", login):
        raise Invalid("A sign-in name has letters, digits and . _ @ + - only; please choose another.")
    if session.exec(select(User).where(User.login == login)).first():
        raise Conflict("The sign-in name %(login)s is taken; please choose another.", login=login)
    user = User(login=login, name=name.strip()[:120] or login, is_admin=admin)
    session.add(user)
    if password:
        set_password(session, user, password)
    session.flush()
    return user


def set_password(session: Session, user: User, password: str) -> None:
    """Give a person a new password and end their other sessions."""
    if len(password) < SHORTEST_PASSWORD:
        raise Invalid("A password needs at least %(count)s characters.", count=SHORTEST_PASSWORD)
    if password.lower() in {user.login, user.name.lower()}:
        raise Invalid("A password must differ from the name it belongs to.")
    user.password_hash = _hasher().hash(password[:1000])
    session.add(user)
    session.flush()
    session.exec(delete(LoginSession).where(col(LoginSession.user_id) == user.id))


def authenticate(session: Session, login: str, password: str, address: str) -> User | None:
    """Answer the person, or None after noting the failed try.

    Tries are counted per name and address together, per address, and per name, so that a stranger's
    guessing does not lock the owner out. Unknown names cost the same time as wrong passwords.
    """
    login = login.strip().lower()[:120]
    recent = select(func.count()).select_from(LoginAttempt).where(col(LoginAttempt.at) > utc_now() - WINDOW)
    pair = session.exec(recent.where(LoginAttempt.login == login, LoginAttempt.address == address)).one()
    by_address = session.exec(recent.where(LoginAttempt.address == address)).one()
    by_login = session.exec(recent.where(LoginAttempt.login == login)).one()
    if pair >= TRIES_PER_PAIR or by_address >= TRIES_PER_ADDRESS or by_login >= TRIES_PER_LOGIN:
        raise TooMany("Too many tries. Please wait a quarter of an hour and try again.")
    user = session.exec(select(User).where(User.login == login)).first()
    if _matches(user.password_hash if user else "", password) and user and not user.disabled:
        return user
    session.add(LoginAttempt(login=login, address=address))
    return None


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher().verify(stored or _nobody(), password[:1000]) and bool(stored)
    except (VerifyMismatchError, InvalidHashError):
        return False


def sign_in(session: Session, user: User) -> str:
    """Open a signed-in session and answer its token; only its hash is kept."""
    token = secrets.token_urlsafe(32)
    now = utc_now()
    session.exec(delete(LoginSession).where(col(LoginSession.expires_at) < now))
    session.add(
        LoginSession(
            token_hash=digest(token), user_id=user.id or 0, created_at=now, seen_at=now, expires_at=now + ABSOLUTE
        )
    )
    return token


def sign_out(session: Session, token: str) -> None:
    """End a session; its token is worth nothing from now on."""
    session.exec(delete(LoginSession).where(col(LoginSession.token_hash) == digest(token)))


def session_of(session: Session, token: str) -> tuple[User, LoginSession] | None:
    """Answer whom a token signs in, or None when it has ended, idled out or its owner is disabled."""
    now = utc_now()
    return session.exec(
        select(User, LoginSession)
        .join(LoginSession, col(LoginSession.user_id) == col(User.id))
        .where(
            LoginSession.token_hash == digest(token),
            col(LoginSession.expires_at) > now,
            col(LoginSession.seen_at) > now - IDLE,
            col(User.disabled).is_(False),
        )
    ).first()


def touch(session: Session, held: LoginSession) -> None:
    """Note that a session is in use, so that it does not idle out."""
    session.exec(update(LoginSession).where(col(LoginSession.token_hash) == held.token_hash).values(seen_at=utc_now()))


def make_link(session: Session, purpose: str, user: User | None = None, minutes: int = 60) -> str:
    """Answer the token of a link that works once: `setup` or `sign-in`."""
    token = secrets.token_urlsafe(24)
    session.add(
        OneTimeLink(
            token_hash=digest(token),
            purpose=purpose,
            user_id=user.id if user else None,
            expires_at=utc_now() + timedelta(minutes=minutes),
        )
    )
    session.flush()
    return token


def use_link(session: Session, token: str, purpose: str) -> OneTimeLink:
    """Spend a link, or raise NotFound when it was used, has expired or never was."""
    spent = session.exec(
        update(OneTimeLink)
        .where(
            col(OneTimeLink.token_hash) == digest(token),
            col(OneTimeLink.purpose) == purpose,
            col(OneTimeLink.used_at).is_(None),
            col(OneTimeLink.expires_at) > utc_now(),
        )
        .values(used_at=utc_now())
    )
    link = session.get(OneTimeLink, digest(token), populate_existing=True)
    if spent.rowcount != 1 or link is None:
        raise NotFound("This link was used already or has expired. Ask for a new one: curator user link NAME.")
    return link


def link_is_good(session: Session, token: str, purpose: str) -> bool:
    """Tell whether a link could be spent now, without spending it."""
    link = session.get(OneTimeLink, digest(token))
    return bool(link and link.purpose == purpose and link.used_at is None and link.expires_at > utc_now())


def set_up(session: Session, token: str, login: str, name: str, password: str) -> User:
    """Make the first admin with the one-time setup link."""
    if session.exec(select(func.count()).select_from(User).where(col(User.is_admin).is_(True))).one():
        raise Forbidden("This installation has an admin already; ask them for an account.")
    if len(password) < SHORTEST_PASSWORD:
        raise Invalid("A password needs at least %(count)s characters.", count=SHORTEST_PASSWORD)
    use_link(session, token, "setup")
    return create_user(session, login, name, password, admin=True)


def role_in(session: Session, user: User, project: Project) -> str | None:
    """Answer a person's role in a project, or None when they are not in it. An admin is everywhere."""
    if user.is_admin:
        return "admin"
    membership = session.get(Membership, (user.id, project.id))
    return membership.role if membership else None


def set_role(session: Session, user: User, project: Project, role: str) -> None:
    """Give a person a role in a project, or take it away with the empty word."""
    if role and role not in ("viewer", "reviewer", "lead"):
        raise Invalid("A role is viewer, reviewer or lead.")
    _count_anew(session, project)
    membership = session.get(Membership, (user.id, project.id))
    if not role:
        if membership:
            session.delete(membership)
        return
    membership = membership or Membership(user_id=user.id or 0, project_id=project.id or 0)
    membership.role = role
    session.add(membership)


def reviewers(session: Session, project: Project) -> frozenset[int]:
    """Answer the ids of those who review in a project and may sign in; leads, who have the last word, are none."""
    return frozenset(
        session.exec(
            select(Membership.user_id)
            .join(User, col(User.id) == col(Membership.user_id))
            .where(Membership.project_id == project.id, Membership.role == "reviewer", col(User.disabled).is_(False))
        )
    )


def people(session: Session) -> list[User]:
    """List everyone, by name."""
    return list(session.exec(select(User).order_by(col(User.name))))


def roles_of(session: Session, project: Project) -> dict[int, str]:
    """Answer who has which role in a project, by user id."""
    rows = session.exec(select(Membership).where(Membership.project_id == project.id))
    return {row.user_id: row.role for row in rows}


def get(session: Session, user_id: int) -> User:
    """Answer one person, or raise NotFound."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such person.")
    return user


def by_login(session: Session, login: str) -> User:
    """Answer one person by sign-in name, or raise NotFound."""
    user = session.exec(select(User).where(User.login == login.strip().lower())).first()
    if user is None:
        raise NotFound("There is nobody with the sign-in name %(login)s.", login=login)
    return user


def disable(session: Session, user: User, *, disabled: bool) -> None:
    """Shut a person out at once, with every session and link they hold, or let them in again."""
    user.disabled = disabled
    session.add(user)
    theirs = select(Project).join(Membership, col(Membership.project_id) == col(Project.id))
    for project in session.exec(theirs.where(Membership.user_id == user.id)):
        _count_anew(session, project)
    if disabled:
        session.exec(delete(LoginSession).where(col(LoginSession.user_id) == user.id))
        session.exec(delete(OneTimeLink).where(col(OneTimeLink.user_id) == user.id))


def _count_anew(session: Session, project: Project) -> None:
    """Have opinions folded anew: a record may wait for somebody who cannot review any more, or for nobody no more."""
    if project.reviews_needed > 1:
        jobs.enqueue(session, "light", "refold", f"refold:{project.id}", {"id": project.id})
