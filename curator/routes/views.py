"""Saved views of the records: keep the present choice under a name, and forget one."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel

from curator import web
from curator.security import current_user, policy, project
from curator.services import choice as choices
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
    choice = choices.read(request.args.to_dict(flat=False)).choice
    view = views.save(web.session(), project(), current_user(), form.name, choice, shared=form.shared)
    said: dict[str, Any] = choice.args()  # url_for names parameters of its own, whose types these are not
    web.notify(_("“%(name)s” is kept.", name=view.name))
    return web.go(url_for("records.index", **said))


@bp.post("/<int:view_id>/delete")
@policy("viewer")
def delete(view_id: int) -> ResponseReturnValue:
    """Forget a view; the records stay as they are."""
    view = views.delete(web.session(), project(), current_user(), view_id)
    web.notify(_("“%(name)s” is forgotten.", name=view.name))
    return web.go(url_for("records.index"))
