"""Comparing: begin a battle, stream its two answers, ask on, vote, write the right answer."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Literal, cast

from flask import Blueprint, Response, current_app, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel
from werkzeug.wrappers import Response as AnyResponse

from curator import web
from curator.security import current_user, may, policy, project
from curator.services import arena, arena_stream, battles, outside, standings
from curator.services.arena_stream import Piece, Streams
from curator.services.battles import Side
from db.models import Battle, Json, Winner

bp = Blueprint("arena", __name__, url_prefix="/p/<slug>")
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class BattleForm(BaseModel):
    """Two version numbers, 0 for the base, and a question, unless `source` asks for a held-out one.

    With `outside`, the name of a model elsewhere, that one stands in for the second.
    """

    new: int
    old: int = 0
    outside: str = ""
    source: Literal["own", "held-out"] = "own"
    question: str = ""


class QuestionForm(BaseModel):
    question: str


class VoteForm(BaseModel):
    winner: Winner


class AnswerForm(BaseModel):
    answer: str


@bp.get("/compare")
@policy("viewer")
def index() -> ResponseReturnValue:
    """Offer a comparison, and show what the votes say so far."""
    session, where, me = web.session(), project(), current_user()
    new, old = arena.pair(session, where, request.args.get("new", type=int), request.args.get("old", type=int))
    return web.page(
        "arena/index.html",
        contenders=arena.contenders(session, where),
        new=new,
        old=old,
        held=arena.held_out(session, where, me, new, old) if new else None,
        standings=standings.every(session, where),
        unfinished=arena.unfinished(session, where, me),
        elsewhere=outside.is_set(web.settings()),
    )


@bp.get("/compare/elsewhere")
@policy("reviewer")
def elsewhere() -> ResponseReturnValue:
    """Offer a comparison with a model elsewhere: the part of the page that comes when that server has answered."""
    contenders = arena.contenders(web.session(), project())
    web.session().close()  # another server is asked next, and no transaction waits for one
    template = "arena/_elsewhere.html" if web.is_htmx() else "arena/elsewhere.html"
    chosen = request.args.get("new", type=int), request.args.get("outside", "")
    return web.page(template, contenders=contenders, offer=outside.offer(web.settings()), chosen=chosen)


@bp.post("/battles")
@policy("reviewer")
def create() -> ResponseReturnValue:
    """Begin a battle."""
    form = web.parse_form(BattleForm)
    question = form.question if form.source == "own" else None
    battle = arena.start(web.session(), project(), current_user(), form.new, form.old, question, form.outside)
    return web.go(url_for("arena.show", battle_id=battle.id))


@bp.get("/battles/<int:battle_id>")
@policy("viewer")
def show(battle_id: int) -> ResponseReturnValue:
    """Show a battle: blind until its vote."""
    battle = arena.get(web.session(), project(), battle_id)
    return web.page("arena/show.html", **_seen(battle))


@bp.post("/battles/<int:battle_id>/turns")
@policy("reviewer")
def ask(battle_id: int) -> ResponseReturnValue:
    """Ask both sides one thing more."""
    form = web.parse_form(QuestionForm)
    battle = arena.get(web.session(), project(), battle_id)
    arena.follow_up(web.session(), battle, current_user(), form.question)
    return _answer(battle)


@bp.post("/battles/<int:battle_id>/vote")
@policy("reviewer")
def vote(battle_id: int) -> ResponseReturnValue:
    """Save the verdict and reveal which model was which."""
    form = web.parse_form(VoteForm)
    battle = arena.get(web.session(), project(), battle_id)
    arena.vote(web.session(), project(), battle, current_user(), form.winner)
    return _answer(battle)


@bp.post("/battles/<int:battle_id>/answer")
@policy("reviewer")
def correct(battle_id: int) -> ResponseReturnValue:
    """Save the right answer, written because both were bad."""
    form = web.parse_form(AnswerForm)
    battle = arena.get(web.session(), project(), battle_id)
    arena.correct(web.session(), project(), battle, current_user(), form.answer)
    web.notify(_("Saved: your answer is preferred over both."))
    return _answer(battle)


@bp.get("/battles/<int:battle_id>/turns/<int:position>/<any(left, right):side>")
@policy("reviewer")
def stream(battle_id: int, position: int, side: Side) -> ResponseReturnValue:
    """Stream one side's answer as events: `text`, then `done` or `error`."""
    me, places = current_user().id or 0, _streams()
    asking = arena_stream.prepare(web.session(), project(), battle_id, position, side)
    web.session().close()
    if not places.enter(me):
        busy = _("Many answers are being written just now. Yours follows in a moment.")
        return Response(busy, 429, {"Retry-After": "2"}, mimetype="text/plain")
    pieces = arena_stream.answer(asking, web.engine(), web.settings())
    answer = Response(_events(pieces, troubles()), mimetype="text/event-stream", headers=STREAM_HEADERS)
    answer.call_on_close(lambda: places.leave(me))
    return answer


@bp.post("/battles/<int:battle_id>/turns/<int:position>/fetch")
@policy("reviewer")
def fetch(battle_id: int, position: int) -> ResponseReturnValue:
    """Have both answers written before the page is shown, for browsers without JavaScript."""
    both = arena_stream.prepare_both(web.session(), project(), battle_id, position)
    web.session().close()  # a model is asked next, and no transaction waits for a model
    arena_stream.drain(both, web.engine(), web.settings())
    return web.go(url_for("arena.show", battle_id=battle_id))


def troubles() -> dict[str, str]:
    """Say in the page's language why a side did not answer; no sentence tells which model it is."""
    return {
        "unavailable": _("The program that runs the models does not answer. Nothing is lost; try again in a moment."),
        "missing": _("The model on this side is not loaded. A lead can load it again under Models."),
        "failed": _("The model on this side stopped in the middle. Nothing is lost; try again."),
    }


def _answer(battle: Battle) -> AnyResponse:
    return web.fragment("arena/_battle.html", back=url_for("arena.show", battle_id=battle.id), **_seen(battle))


def _seen(battle: Battle) -> Json:
    session, where, me = web.session(), project(), current_user()
    view = battles.view(session, battle, me.id)
    two = battle.new_version_id, battle.old_version_id, battle.outside
    standing = standings.of_pair(session, where, *two) if view.winner else None
    new = standing.new if standing else None
    return {
        "battle": view,
        "standing": standing,
        "held": arena.held_out(session, where, me, new, standing.old, standing.outside) if standing and new else None,
        "troubles": troubles(),
        "can_vote": view.mine and may("reviewer"),
    }


def _streams() -> Streams:
    """Answer this process's places for streams; some threads always stay free for pages."""
    most = max(2, min(arena_stream.MOST_STREAMS, web.settings().threads - 8))
    return cast("Streams", current_app.extensions.setdefault("curator.streams", Streams(most)))


def _events(pieces: Generator[Piece], sentences: dict[str, str]) -> Iterator[str]:
    """Write pieces as server-sent events; when the browser goes away, the model is stopped with them.

    It runs after the request has ended, so all it needs of the request is given to it.
    """
    with closing(pieces):
        yield ": open\n\n"
        for piece in pieces:
            said = sentences[piece.text] if piece.kind == "error" else piece.text
            yield f"event: {piece.kind}\ndata: {json.dumps({'text': said})}\n\n"
