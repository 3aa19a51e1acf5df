"""Teaching: is it time, start, follow, stop, and what came of it."""

from __future__ import annotations

from typing import Literal

from flask import Blueprint, Response, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel

from curator import web
from curator.security import current_user, policy, project
from curator.services import (
    continuing,
    examples,
    jobs,
    lessons,
    lineage,
    number_types,
    recipe,
    run_comparison,
    runs,
    snapshots,
    standings,
)
from db.models import Json, Project, Run, Snapshot
from trainer.recipe import Flat

bp = Blueprint("runs", __name__, url_prefix="/p/<slug>")
WHOLE_LOG = 1_000_000


class TeachForm(BaseModel):
    """A dataset to teach with (none: freeze today's answers), from where, and how thoroughly."""

    snapshot_id: int | None = None
    include_personal: bool = False  # when today's answers are frozen
    continues: int | None = None  # number of a version; none: from the base
    method: Literal["", "dpo", "kto"] = ""  # of learning preferences; none: as usual
    preset: Literal["", "quick"] = ""


@bp.get("/teach")
@policy("viewer")
def index() -> ResponseReturnValue:
    """Show whether it is time to teach, and the runs so far."""
    session = web.session()
    return web.page(
        "runs/index.html",
        readiness=runs.readiness(session, project(), web.settings()),
        next_name=snapshots.next_name(session, project()),
        snapshots=snapshots.recent(session, project()),
        held=lessons.held,
        fields=recipe.fields(project()),
        versions=continuing.possible(session, project()),
        runs=runs.recent(session, project()),
        comparable=run_comparison.comparable(session, project()),
        numbers=lineage.numbers(session, project()),
        run_numbers=lineage.run_numbers(session, project()),
        personal=examples.count_personal(session, project()),
    )


@bp.post("/runs")
@policy("lead")
def create() -> ResponseReturnValue:
    """Freeze today's approved answers, or take a dataset there is, and teach with it."""
    form = web.parse_form(TeachForm)
    typed = _typed(form)
    run = runs.start(web.session(), project(), _dataset(form), current_user(), typed, form.preset)
    return web.go(url_for("runs.show", run_id=run.id))


@bp.post("/runs/command")
@policy("lead")
def command() -> ResponseReturnValue:
    """Say how what is chosen in the form is done by hand; nothing is kept or started."""
    form = web.parse_form(TeachForm)
    shown = runs.preview(web.session(), project(), form.snapshot_id, _typed(form), form.preset)
    return web.fragment("runs/_command.html", back=url_for("runs.index"), by_hand=shown)


@bp.get("/runs/compare")
@policy("viewer")
def compare() -> ResponseReturnValue:
    """Show two finished runs side by side; without a choice the newest, against the one before."""
    one, other = request.args.get("one", type=int), request.args.get("other", type=int)
    session, finished = web.session(), run_comparison.comparable(web.session(), project())
    pair = run_comparison.chosen(finished, one, other)
    return web.page(
        "runs/compare.html",
        runs=finished,
        numbers=lineage.numbers(session, project()),
        run_numbers=lineage.run_numbers(session, project()),
        comparison=run_comparison.compare(session, *pair) if pair else None,
    )


@bp.get("/runs/<int:run_id>")
@policy("viewer")
def show(run_id: int) -> ResponseReturnValue:
    """Show one run: how far it is, or what came of it."""
    run = runs.get(web.session(), project(), run_id)
    return web.page("runs/show.html", **_seen(run))


@bp.get("/runs/<int:run_id>/status")
@policy("viewer")
def status(run_id: int) -> ResponseReturnValue:
    """Answer how a run stands, for the page that follows it."""
    run = runs.get(web.session(), project(), run_id)
    return web.page("runs/_status.html", **_seen(run))


@bp.post("/runs/<int:run_id>/cancel")
@policy("lead")
def cancel(run_id: int) -> ResponseReturnValue:
    """Stop a run."""
    run = runs.get(web.session(), project(), run_id)
    runs.cancel(web.session(), run)
    web.notify(_("The run is being stopped. Nothing that is in service changes."))
    return web.fragment("runs/_status.html", back=url_for("runs.show", run_id=run.id), **_seen(run))


@bp.post("/runs/<int:run_id>/resume")
@policy("lead")
def resume(run_id: int) -> ResponseReturnValue:
    """Let a run that was stopped or failed go on from where it was."""
    run = runs.resume(web.session(), runs.get(web.session(), project(), run_id))
    return web.go(url_for("runs.show", run_id=run.id))


@bp.get("/runs/<int:run_id>/log")
@policy("viewer")
def log(run_id: int) -> ResponseReturnValue:
    """Hand out what the trainer printed."""
    run = runs.get(web.session(), project(), run_id)
    text = "\n".join(runs.log_tail(run, WHOLE_LOG)) + "\n"
    headers = {"Content-Disposition": f'attachment; filename="run-{run.id}.log"'}
    return Response(text, mimetype="text/plain; charset=utf-8", headers=headers)


def _typed(form: TeachForm) -> Flat:
    """Answer the parameters that were typed or chosen, by name."""
    typed = web.parse_form(recipe.Typed).model_dump(exclude_none=True)
    return typed | form.model_dump(include={*recipe.BY_CHOICE}, exclude_defaults=True)


def _dataset(form: TeachForm) -> Snapshot:
    session, where = web.session(), project()
    if form.snapshot_id is not None:
        return snapshots.get(session, where, form.snapshot_id)
    name = snapshots.next_name(session, where)
    return snapshots.freeze(session, where, name, current_user(), include_personal=form.include_personal)


def _seen(run: Run) -> Json:
    """Gather what the pages of one run show."""
    session, where = web.session(), project()
    job = jobs.live_job(session, runs.job_key(run)) if run.state in runs.LIVE else None
    snapshot = session.get_one(Snapshot, run.snapshot_id)
    return {
        "run": run,
        "run_numbers": lineage.run_numbers(session, where),
        "snapshot": snapshot,
        "studied": lessons.learnt(snapshot, run.spec.get("method", "sft"), "train")[0],
        "progress": runs.progress(run),
        "plan": runs.plan(run),
        "by_hand": runs.by_hand(session, run),
        "stopping": bool(job and job.cancel_requested),
        "log": runs.log_tail(run),
        **(_card(where, run) if run.state == "finished" else {}),
    }


def _card(where: Project, run: Run) -> Json:
    session = web.session()
    version = lineage.of_run(session, run)
    before = lineage.before(session, version) if version else None
    return {
        "card": runs.card(run),
        "choice": number_types.choice(session, run),
        "evaluation": runs.evaluation(run),
        "version": version,
        "before": before,
        "growth": lineage.growth(session, run),
        "run_before": lineage.run_before(session, run),
        "tally": standings.of_pair(session, where, version.id, before.id if before else None).tally
        if version
        else None,
    }
