"""Saved views of the records: keep the present choice under a name, and forget one."""

from __future__ import annotations

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel

from curator import chosen, web
from curator.security import current_user, policy, project
from curator.services import views

bp = Blueprint("views", __name__, url_prefix="/p/<slug>/views")


class ViewForm(BaseModel):
    name: str
    shared: bool = False


@bp.post("/")
@policy("viewer")
def create() -> ResponseReturnValue:
    """Keep the choice of the address under a name."""
    form = web.parse_form(ViewForm)
    choice = chosen.asked().choice
    view = views.save(web.session(), project(), current_user(), form.name, choice, shared=form.shared)
    web.notify(_("“%(name)s” is kept.", name=view.name))
    return web.go(chosen.address("records.index", choice))


@bp.post("/<int:view_id>/delete")
@policy("viewer")
def delete(view_id: int) -> ResponseReturnValue:
    """Forget a view; the records stay as they are."""
    view = views.delete(web.session(), project(), current_user(), view_id)
    web.notify(_("“%(name)s” is forgotten.", name=view.name))
    return web.go(url_for("records.index"))
