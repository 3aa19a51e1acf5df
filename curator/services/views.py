"""Saved views: choices of records under a name, one's own or everybody's, and the choice one had last at the desk."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, func, or_, select

from curator.errors import Conflict, Forbidden, Invalid, NotFound
from curator.services import accounts
from curator.services.choice import ALL, HIGHEST, Choice, read
from db.models import Project, SavedView, User

LONGEST = 60  # characters of a name; it has to fit on a chip
MOST = 50  # of one person in one project
LAST = ""  # the name of the view that remembers the desk


def save(
    session: Session, project: Project, user: User, name: str, choice: Choice, *, shared: bool = False
) -> SavedView:
    """Keep a choice under a name, in place of what this person kept under it before; only leads share one."""
    name = " ".join(name.replace("\0", " ").split())
    if not name:
        raise Invalid("Please give the view a name.")
    if len(name) > LONGEST:
        raise Invalid("The name of a view can have %(count)s characters at most.", count=LONGEST)
    if shared and not _leads(session, project, user):
        raise Forbidden("Only a lead can share a view with everybody.")
    view = _of(session, project, user, name)
    if view is None and _number(session, project, user) >= MOST:
        raise Conflict("You have %(count)s views here already. Delete one first.", count=MOST)
    view = view or SavedView(project_id=project.id or 0, user_id=user.id or 0, name=name)
    view.query, view.shared = choice.args(), shared
    session.add(view)
    session.flush()
    return view


def listed(session: Session, project: Project, user: User) -> list[tuple[SavedView, Choice]]:
    """List a person's views and those that are everybody's, by name, each with its choice."""
    mine = or_(SavedView.user_id == user.id, col(SavedView.shared).is_(True))
    query = select(SavedView).where(SavedView.project_id == project.id, SavedView.name != LAST, mine)
    found = session.exec(query.order_by(func.lower(SavedView.name), col(SavedView.id)).limit(4 * MOST))
    return [(view, choice_of(view)) for view in found]


def delete(session: Session, project: Project, user: User, view_id: int) -> SavedView:
    """Forget a view: one's own, or as a lead one that is everybody's."""
    view = session.get(SavedView, view_id) if view_id <= HIGHEST else None
    if view is None or view.project_id != project.id or view.name == LAST:
        raise NotFound("There is no such view in this project.")
    if view.user_id != user.id and not (view.shared and _leads(session, project, user)):
        raise NotFound("There is no such view in this project.")
    session.delete(view)
    return view


def choice_of(view: SavedView) -> Choice:
    """Answer the choice a view keeps; what has lost its meaning since is left out."""
    return read(view.query).choice


def resume(session: Session, project: Project, user: User, choice: Choice) -> Choice:
    """Answer the choice for the desk: what the address says, which is remembered, or else what was remembered.

    The session has to be one that may write. An address that says only what makes no sense says nothing.
    """
    if choice == ALL:
        last = _of(session, project, user, LAST)
        return choice_of(last).at_desk() if last else ALL
    chosen = choice.at_desk()
    _remember(session, project, user, chosen if chosen.order != "doubt" else chosen.without("order"))
    return chosen


def _remember(session: Session, project: Project, user: User, choice: Choice) -> None:
    last = _of(session, project, user, LAST)
    if last is not None:
        if last.query != choice.args():
            last.query = choice.args()
            session.add(last)
        return
    if choice == ALL:
        return
    try:
        with session.begin_nested():
            session.add(SavedView(project_id=project.id or 0, user_id=user.id or 0, name=LAST, query=choice.args()))
    except IntegrityError:
        return  # another window of the same person was faster; either is what they chose last


def _of(session: Session, project: Project, user: User, name: str) -> SavedView | None:
    query = select(SavedView).where(SavedView.project_id == project.id, SavedView.user_id == user.id)
    return session.exec(query.where(SavedView.name == name)).first()


def _number(session: Session, project: Project, user: User) -> int:
    here = (SavedView.project_id == project.id, SavedView.user_id == user.id, SavedView.name != LAST)
    return session.exec(select(func.count()).select_from(SavedView).where(*here)).one()


def _leads(session: Session, project: Project, user: User) -> bool:
    return accounts.role_in(session, user, project) in ("lead", "admin")
