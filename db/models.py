"""Every table, in the order data flows: people, projects, log, review, dataset, run, version, battle, job.

Append-only: records, passages, reviews, retractions, snapshots, votes, promotions and the journal are
never edited. What changes is a fold kept beside them (`Record.state` and its neighbours) and rebuildable.
Times are aware UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, DateTime, Index, Text, TypeDecorator, UniqueConstraint, text
from sqlalchemy.orm import declared_attr
from sqlmodel import Field, SQLModel, col

Role = Literal["viewer", "reviewer", "lead", "admin"]
PromptStyle = Literal["question", "passages"]
Verdict = Literal["accept", "reject", "skip", "unsure"]
RecordState = Literal["new", "accepted", "rejected", "unsure"]
SnapshotKind = Literal["sft", "preference"]
RunState = Literal["queued", "running", "finished", "failed", "cancelled"]
VersionState = Literal["built", "published", "in service", "retired"]
PassageVerdict = Literal["useful", "not useful", "wrong source"]
Winner = Literal["left", "right", "tie", "both bad"]
Queue = Literal["train", "light"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]

Json = dict[str, Any]  # decoded JSON really is anything


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, stored in UTC and read back aware; SQLite alone would forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> datetime | None:  # noqa: ARG002  SQLAlchemy's signature
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:  # noqa: ARG002  as above
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class Table(SQLModel):
    """What every table is made from; it is named after its class: ModelVersion is model_version."""

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805  # pyright: ignore[reportIncompatibleVariableOverride]  SQLAlchemy's way
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def utc_now() -> datetime:
    """Answer the present moment in UTC."""
    return datetime.now(UTC)


def moment(*, null: bool = False, index: bool = False) -> Any:  # SQLModel types its Field so
    """Declare a column of type moment; it defaults to now unless it may be empty."""
    if null:
        return Field(default=None, sa_type=UtcDateTime, nullable=True, index=index)
    return Field(default_factory=utc_now, sa_type=UtcDateTime, nullable=False, index=index)


def long_text(default: str = "") -> Any:  # SQLModel types its Field so
    """Declare a text column without a length."""
    return Field(default=default, sa_type=Text, nullable=False)


def json_column(factory: Any) -> Any:  # SQLModel types its Field so
    """Declare a column holding JSON, made by `factory` when not given."""
    return Field(default_factory=factory, sa_type=JSON, nullable=False)


# --- people ---------------------------------------------------------------------------------------


class User(Table, table=True):
    """A person who can sign in. `password_hash` is argon2id; empty means: by one-time link only."""

    id: int | None = Field(default=None, primary_key=True)
    login: str = Field(unique=True)
    name: str
    password_hash: str = ""
    is_admin: bool = False
    disabled: bool = False
    keys: Json = json_column(dict)  # {action: key} where a person chose another key; see curator/services/keys.py
    single_keys: bool = True  # whether single keys decide at all (WCAG 2.1.4)
    created_at: datetime = moment()


class LoginSession(Table, table=True):
    """A signed-in browser. Only the hash of its token is kept, so a stolen database signs nobody in."""

    token_hash: str = Field(primary_key=True)
    user_id: int = Field(foreign_key="user.id", index=True)
    created_at: datetime = moment()
    seen_at: datetime = moment()
    expires_at: datetime = moment()


class OneTimeLink(Table, table=True):
    """A link that works once: `setup` makes the first admin, `sign-in` signs one person in."""

    token_hash: str = Field(primary_key=True)
    purpose: str
    user_id: int | None = Field(default=None, foreign_key="user.id")
    expires_at: datetime = moment()
    used_at: datetime | None = moment(null=True)


class LoginAttempt(Table, table=True):
    """A failed sign-in, kept to slow guessing down per account and per address."""

    id: int | None = Field(default=None, primary_key=True)
    login: str = Field(index=True)
    address: str = Field(index=True)
    at: datetime = moment(index=True)


# --- projects -------------------------------------------------------------------------------------


class Base(Table, table=True):
    """A model that is taught: one GGUF file known by its content, optionally the folder it came from.

    `admission` is what the test found that compares what teaches with what answers, on this file and folder.
    """

    id: int | None = Field(default=None, primary_key=True)
    name: str
    path: str
    sha256: str = Field(unique=True)
    architecture: str
    size: int
    folder: str = ""  # full-precision weights to teach from; empty: the GGUF's own
    licence: str = ""
    source: str = "file"  # file, embedded, ollama, hub
    origin: str = ""  # its name there: a tag of Ollama's, a repository
    languages: str = ""  # codes with spaces between, + for many more; empty: nobody says
    parameters: int = Field(default=0, sa_type=BigInteger)
    admission: str = "not checked"  # passed, failed, not checked
    admission_message: str = long_text()
    admission_detail: str = long_text()
    created_at: datetime = moment()


class Arrival(Table, table=True):
    """A base on its way in: asked for by a person, brought by a worker."""

    id: int | None = Field(default=None, primary_key=True)
    source: str  # as Base.source
    origin: str  # a path, a tag of Ollama's, a repository
    file: str = ""  # of the repository; empty: whichever is best for teaching
    state: str = "waiting"  # waiting, bringing, done, failed, cancelled
    received: int = Field(default=0, sa_type=BigInteger)  # bytes, of `size`
    size: int = Field(default=0, sa_type=BigInteger)
    error: str = long_text()
    base_id: int | None = Field(default=None, foreign_key="base.id")
    created_by: int | None = Field(default=None, foreign_key="user.id")
    created_at: datetime = moment()
    finished_at: datetime | None = moment(null=True)


class Project(Table, table=True):
    """One assistant being taught."""

    id: int | None = Field(default=None, primary_key=True)
    slug: str = Field(unique=True)
    name: str
    guidelines: str = long_text()
    system_prompt: str = long_text()
    prompt_style: str = "question"
    base_id: int | None = Field(default=None, foreign_key="base.id")
    reviews_needed: int = 1
    reasons: list[Json] = json_column(list)  # [{"key", "en", "zh"}], in the order of keys 1-9
    recipe: Json = json_column(dict)  # TrainSpec fields that differ from the defaults
    seed: int = 17
    service_version_id: int | None = None  # the version users get; None = the base. A foreign key would be a cycle
    prepared_up_to: int = 0  # the last record that was indexed, grouped and looked through; see services/prepare.py
    created_at: datetime = moment()


class Membership(Table, table=True):
    """A person's role in a project: viewer, reviewer or lead."""

    user_id: int = Field(foreign_key="user.id", primary_key=True)
    project_id: int = Field(foreign_key="project.id", primary_key=True)
    role: str = "reviewer"


class Guideline(Table, table=True):
    """One version of a project's guidelines, never edited; the newest is `Project.guidelines` as well."""

    __table_args__ = (UniqueConstraint("project_id", "number"),)
    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    number: int
    text: str = long_text()
    user_id: int | None = Field(default=None, foreign_key="user.id")
    created_at: datetime = moment()


class SavedView(Table, table=True):
    """A choice of records under a name: filters and order as in the address. `shared` ones are everybody's."""

    __table_args__ = (UniqueConstraint("project_id", "user_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    user_id: int = Field(foreign_key="user.id")
    name: str
    query: Json = json_column(dict)
    shared: bool = False
    created_at: datetime = moment()


# --- the log --------------------------------------------------------------------------------------


class Source(Table, table=True):
    """One imported file, with the importer that read it and what became of its lines."""

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id", index=True)
    name: str
    importer: str
    mapping: Json = json_column(dict)
    path: str = ""
    size: int = 0
    state: str = "waiting"  # waiting, importing, done, failed
    read_bytes: int = 0
    new: int = 0
    duplicate: int = 0
    skipped: int = 0
    skips: list[Json] = json_column(list)  # the first 1,000: {"line", "reason"}
    error: str = long_text()
    created_by: int | None = Field(default=None, foreign_key="user.id")
    created_at: datetime = moment()
    finished_at: datetime | None = moment(null=True)


_CLUSTERED = "cluster_id IS NOT NULL"
_UNSURE = "state = 'unsure'"


class Record(Table, table=True):
    """One captured exchange. Its content is never edited; `digest` is unique per project.

    Below the content stands what was worked out about it, then the fold of its reviews: state, version and lease.
    """

    __table_args__ = (
        UniqueConstraint("project_id", "digest"),
        Index("record_state", "project_id", "state", "id"),
        Index("record_list", "project_id", "id"),
        Index("record_cluster", "cluster_id", sqlite_where=text(_CLUSTERED), postgresql_where=text(_CLUSTERED)),
        Index("record_gold", "project_id", "id", sqlite_where=text("gold"), postgresql_where=text("gold")),
        Index("record_unsure", "project_id", "id", sqlite_where=text(_UNSURE), postgresql_where=text(_UNSURE)),
    )
    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    source_id: int = Field(foreign_key="source.id", index=True)
    digest: str
    external_id: str = ""
    group: str = Field(index=True)
    system: str = long_text()
    turns: list[Json] = json_column(list)  # what came before the question: [{"role", "content"}]
    question: str = long_text()
    answer: str = long_text()
    reference: str = long_text()  # an answer the log itself holds as right, if any
    signals: Json = json_column(dict)  # {"thumbs": -1|1, "score": best passage, "latency_ms", "refusal", …}
    language: str = ""
    happened_at: datetime | None = moment(null=True)
    created_at: datetime = moment()

    thumbs: int = 0  # what the user thought: -1, 1, or 0 where nobody said
    refusal: bool = False
    weak: int = 0  # how badly the best passage matched, in thousandths: 1000 x (1 - score); 0 where nothing is known
    length: int = 0  # characters of question and answer
    asked: int = 1  # how often this question came, rounded down to a power of two
    question_key: int = Field(default=0, sa_type=BigInteger, index=True)  # hash of the question without case and signs
    cluster_id: int | None = None  # of near-duplicates: the record that stands for them; it names itself
    personal: str | None = None  # kinds of personal data found, such as "email phone"; None: not looked at yet
    gold: bool = False  # its decision is what reviewers are measured by

    state: str = "new"
    version: int = 1
    rating: int | None = None
    edited: bool = False
    settled_by: int | None = None  # the review that settled it; no foreign key, reviews point here
    settled_at: datetime | None = moment(null=True)
    rank: int = 0  # place in the review queue: lower is asked sooner
    assigned_to: int | None = Field(default=None, foreign_key="user.id")  # asked of this person only
    claimed_by: int | None = Field(default=None, foreign_key="user.id")
    claimed_until: datetime | None = moment(null=True)


def _queue_index(order: str, *columns: Any) -> None:  # columns, some of them descending
    """Declare the index of one order of the review queue; it holds only what waits, so it shrinks as people decide."""
    waiting = text("state = 'new'")
    ahead = (col(Record.project_id), col(Record.assigned_to))
    Index(f"queue_{order}", *ahead, *columns, col(Record.id), sqlite_where=waiting, postgresql_where=waiting)


_queue_index("doubt", col(Record.rank))
_queue_index("thumbs", col(Record.thumbs), col(Record.rank))
_queue_index("weak", col(Record.weak).desc(), col(Record.rank))
_queue_index("refusal", col(Record.refusal).desc(), col(Record.rank))
_queue_index("asked", col(Record.asked).desc(), col(Record.rank))
_queue_index("age")


class Passage(Table, table=True):
    """One retrieved chunk."""

    __table_args__ = (UniqueConstraint("record_id", "position"),)
    id: int | None = Field(default=None, primary_key=True)
    record_id: int = Field(foreign_key="record.id")
    position: int
    document: str = ""
    text: str = long_text()
    score: float | None = None


class RecordCount(Table, table=True):
    """How many records of a project are in a state, kept beside them; folding.recount() makes it anew."""

    project_id: int = Field(foreign_key="project.id", primary_key=True)
    state: str = Field(primary_key=True)
    number: int = 0


class QuestionCount(Table, table=True):
    """How often one question came in a project; `key` as in Record.question_key."""

    project_id: int = Field(foreign_key="project.id", primary_key=True)
    key: int = Field(sa_type=BigInteger, primary_key=True)
    number: int = 0


class Band(Table, table=True):
    """One band of a MinHash signature: records that share one may be near-duplicates. See services/twins.py."""

    project_id: int = Field(foreign_key="project.id", primary_key=True)
    hash: int = Field(sa_type=BigInteger, primary_key=True)
    record_id: int = Field(foreign_key="record.id", primary_key=True)


# --- review ---------------------------------------------------------------------------------------


class Review(Table, table=True):
    """One person's judgement. `question` and `answer` hold the correction, None where nothing was changed.

    `request_id` is made by the browser, so a double click or a retry is the same review.
    """

    __table_args__ = (
        Index("review_of_record", "record_id", "user_id"),
        Index("review_batch", "batch", sqlite_where=text("batch != ''"), postgresql_where=text("batch != ''")),
        Index("review_final", "id", sqlite_where=text("adjudication"), postgresql_where=text("adjudication")),
    )
    id: int | None = Field(default=None, primary_key=True)
    record_id: int = Field(foreign_key="record.id")
    user_id: int = Field(foreign_key="user.id", index=True)
    request_id: str = Field(unique=True)
    verdict: str
    rating: int | None = None
    reasons: list[str] = json_column(list)
    question: str | None = Field(default=None, sa_type=Text)
    answer: str | None = Field(default=None, sa_type=Text)
    turns: dict[str, str] = json_column(
        dict
    )  # {place in Record.turns: corrected text} of the assistant's earlier turns
    passages: dict[str, str] = json_column(dict)  # {position: PassageVerdict}
    comment: str = long_text()
    adjudication: bool = False
    batch: str = ""  # reviews given together share it, and are taken back together
    record_version: int  # the version that was judged
    seconds: float | None = None
    created_at: datetime = moment(index=True)


class Retraction(Table, table=True):
    """A review taken back. The review stays; the fold leaves it out."""

    review_id: int = Field(foreign_key="review.id", primary_key=True)
    user_id: int = Field(foreign_key="user.id")
    created_at: datetime = moment()


class Draft(Table, table=True):
    """What a person has typed into a record's card and not saved yet."""

    user_id: int = Field(foreign_key="user.id", primary_key=True)
    record_id: int = Field(foreign_key="record.id", primary_key=True)
    record_version: int
    rating: int | None = None
    reasons: list[str] = json_column(list)
    question: str | None = Field(default=None, sa_type=Text)
    answer: str | None = Field(default=None, sa_type=Text)
    turns: dict[str, str] = json_column(dict)
    passages: dict[str, str] = json_column(dict)
    comment: str = long_text()
    saved_at: datetime = moment()


class Pin(Table, table=True):
    """A past correction that every new version is asked again. The check is that of trainer.spec.PinnedQuestion."""

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id", index=True)
    record_id: int | None = Field(default=None, foreign_key="record.id")
    question: str = long_text()
    answer: str = long_text()
    must_include: list[list[str]] = json_column(list)
    must_not_include: list[str] = json_column(list)
    removed_at: datetime | None = moment(null=True)
    created_at: datetime = moment()


# --- dataset --------------------------------------------------------------------------------------


class Snapshot(Table, table=True):
    """A frozen, content-hashed dataset version. `sha256` covers every example with its split, in order."""

    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    name: str
    kind: str = "sft"
    sha256: str
    seed: int
    train: int
    val: int
    test: int
    left_out: int = 0  # approved records that hold personal data and were not taken in
    singles: Json = json_column(dict)  # {split: {"good": 9, "bad": 2}}: single judgements among preferences, not pairs
    created_by: int | None = Field(default=None, foreign_key="user.id")
    created_at: datetime = moment()


class ExampleContent(Table, table=True):
    """One example's canonical JSON under its own sha256, shared by all snapshots that hold it."""

    sha256: str = Field(primary_key=True)
    body: str = long_text()


class SnapshotExample(Table, table=True):
    """An example's place in a snapshot. The content is a copy; `record_id` is lineage, None for a typed question."""

    snapshot_id: int = Field(foreign_key="snapshot.id", primary_key=True)
    position: int = Field(primary_key=True)
    content_sha256: str = Field(foreign_key="example_content.sha256")
    record_id: int | None = Field(default=None, foreign_key="record.id", index=True)
    group: str
    split: str


# --- run and version ------------------------------------------------------------------------------


class Run(Table, table=True):
    """One training attempt on one snapshot. Its folder under `runs/` holds spec, events, adapter and files."""

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id", index=True)
    snapshot_id: int = Field(foreign_key="snapshot.id")
    base_id: int = Field(foreign_key="base.id")
    folder: str = ""
    spec: Json = json_column(dict)
    state: str = "queued"
    stage: str = ""
    failure: str = ""
    message: str = long_text()
    card: Json = json_column(dict)  # the figures of the run card, copied from evaluation.json
    trouble: str = long_text()  # why its number types could not be measured, or a version of one not be made
    created_by: int | None = Field(default=None, foreign_key="user.id")
    created_at: datetime = moment()
    started_at: datetime | None = moment(null=True)
    finished_at: datetime | None = moment(null=True)


_KEPT = "state <> 'retired'"


class ModelVersion(Table, table=True):
    """What a finished run became: version `number` of the project. `tag` is its immutable name in the runtime.

    A run becomes a version of the number type in its recipe, and later of others where somebody asks: the first has
    the lowest number. `card` is as Run.card, of its own file; empty for the first, whose card is the run's. `form` says
    as what it lies in its runtime: merged, one whole file, or adapter, on top of its base.
    """

    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        Index(
            "version_once", "run_id", "merged_type", unique=True, sqlite_where=text(_KEPT), postgresql_where=text(_KEPT)
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    number: int
    run_id: int = Field(foreign_key="run.id")
    base_id: int = Field(foreign_key="base.id")
    merged_type: str = "Q8_0"  # number type of what was taught in its file, as TrainSpec.merged_type
    card: Json = json_column(dict)
    state: str = "built"
    tag: str = ""
    runtime: str = ""
    form: str = "merged"
    frees: int | None = Field(default=None, sa_type=BigInteger)  # octets that dropping `tag` frees there, if known
    folder: str = ""
    gate_passed: bool = False
    gate: list[Json] = json_column(list)  # [{"name", "passed", "detail"}]
    message: str = long_text()  # why it could not be published, or not as was wished
    created_at: datetime = moment()
    published_at: datetime | None = moment(null=True)


class Promotion(Table, table=True):
    """The journal of what was put into service: who, when, why. `version_id` None = the base."""

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id", index=True)
    version_id: int | None = Field(default=None, foreign_key="model_version.id")
    previous_id: int | None = Field(default=None, foreign_key="model_version.id")
    user_id: int | None = Field(default=None, foreign_key="user.id")
    reason: str = long_text()
    created_at: datetime = moment()


# --- comparing ------------------------------------------------------------------------------------


class Battle(Table, table=True):
    """Two blind answers to one conversation. `left_is_new` is the shuffle; it stays hidden until the vote.

    With `outside`, the name of a model elsewhere, that one is the old side, and the new one may be the base.
    """

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id", index=True)
    user_id: int = Field(foreign_key="user.id")
    record_id: int | None = Field(default=None, foreign_key="record.id")
    group: str = ""
    old_version_id: int | None = Field(default=None, foreign_key="model_version.id")  # None = the base
    new_version_id: int | None = Field(default=None, foreign_key="model_version.id")
    outside: str = ""
    left_is_new: bool
    seed: int = 17
    created_at: datetime = moment()


class BattleTurn(Table, table=True):
    """One prompt of a battle and the two answers, filled in when each stream ends."""

    __table_args__ = (UniqueConstraint("battle_id", "position"),)
    id: int | None = Field(default=None, primary_key=True)
    battle_id: int = Field(foreign_key="battle.id")
    position: int
    prompt: str = long_text()
    left: str | None = Field(default=None, sa_type=Text)
    right: str | None = Field(default=None, sa_type=Text)
    left_error: str = ""
    right_error: str = ""
    created_at: datetime = moment()


class Vote(Table, table=True):
    """The verdict on a battle, once."""

    battle_id: int = Field(foreign_key="battle.id", primary_key=True)
    user_id: int = Field(foreign_key="user.id")
    winner: str
    new_won: bool | None = None  # None: tie or both bad
    created_at: datetime = moment()


class PreferencePair(Table, table=True):
    """Prompt, chosen, rejected: from an edit or a decisive vote. It keeps its record's group."""

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="project.id", index=True)
    record_id: int | None = Field(default=None, foreign_key="record.id")
    review_id: int | None = Field(default=None, foreign_key="review.id", unique=True)
    battle_id: int | None = Field(default=None, foreign_key="battle.id")
    group: str
    prompt: list[Json] = json_column(list)
    chosen: str = long_text()
    rejected: str = long_text()
    created_at: datetime = moment()


# --- work and journal -----------------------------------------------------------------------------


class Job(Table, table=True):
    """One queued piece of work. A claim raises `fence`; every later write names it, so a stale worker cannot write."""

    __table_args__ = (
        Index("job_claim", "queue", "state", "run_after"),
        Index(
            "job_once", "key", unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
    )  # fmt: skip
    id: int | None = Field(default=None, primary_key=True)
    queue: str
    kind: str
    key: str  # what it works on, e.g. "run:7": at most one live job per key
    payload: Json = json_column(dict)
    state: str = "queued"
    attempt: int = 0
    max_attempts: int = 3
    fence: int = 0
    worker: str = ""
    run_after: datetime = moment()
    lease_until: datetime | None = moment(null=True)
    cancel_requested: bool = False
    error: str = long_text()
    created_at: datetime = moment()
    started_at: datetime | None = moment(null=True)
    finished_at: datetime | None = moment(null=True)


class Journal(Table, table=True):
    """Who did what, when: sign-ins, imports, freezes, runs, promotions, exports."""

    id: int | None = Field(default=None, primary_key=True)
    project_id: int | None = Field(default=None, foreign_key="project.id", index=True)
    user_id: int | None = Field(default=None, foreign_key="user.id")
    action: str
    subject: str = ""
    detail: Json = json_column(dict)
    created_at: datetime = moment(index=True)
