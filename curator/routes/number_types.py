"""A finished run as a file of another number type: what each would keep, and versions made of them."""

from __future__ import annotations

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel, Field
from werkzeug.wrappers import Response as AnyResponse

from curator import web
from curator.security import current_user, policy, project
from curator.services import number_types, runs
from db.models import Run

bp = Blueprint("number_types", __name__, url_prefix="/p/<slug>/runs/<int:run_id>/types")


class VersionForm(BaseModel):
    type: str = Field(max_length=10)


@bp.get("")
@policy("viewer")
def index(run_id: int) -> ResponseReturnValue:
    """Answer the number types alone, for the page that follows them."""
    run = runs.get(web.session(), project(), run_id)
    return web.page("runs/_types.html", run=run, choice=number_types.choice(web.session(), run))


@bp.post("")
@policy("lead")
def measure(run_id: int) -> ResponseReturnValue:
    """Have measured what each number type would keep."""
    run = runs.get(web.session(), project(), run_id)
    number_types.request_measuring(web.session(), run, current_user())
    return _types(run)


@bp.post("/versions")
@policy("lead")
def create(run_id: int) -> ResponseReturnValue:
    """Have a version of another number type made."""
    form, run = web.parse_form(VersionForm), runs.get(web.session(), project(), run_id)
    number_types.request_version(web.session(), run, form.type, current_user(), web.settings())
    web.notify(_("The version is being made. It will be examined and loaded as any other."))
    return _types(run)


@bp.post("/cancel")
@policy("lead")
def cancel(run_id: int) -> ResponseReturnValue:
    """Stop measuring and making."""
    run = runs.get(web.session(), project(), run_id)
    number_types.cancel(web.session(), run)
    web.notify(_("It is being stopped. Nothing that is in service changes."))
    return _types(run)


def _types(run: Run) -> AnyResponse:
    choice = number_types.choice(web.session(), run)
    back = url_for("runs.show", run_id=run.id)
    return web.fragment("runs/_types.html", back=back, run=run, choice=choice)
