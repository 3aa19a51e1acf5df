"""What holds personal data stays out of a snapshot unless a lead says otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from sqlmodel import Session

from curator.errors import Invalid
from curator.services import desk, examples, lessons, snapshots
from db.models import PreferencePair, Project, Record, Review, Snapshot, User, utc_now
from tests.factories import make_record

MAIL = "Write to anna@example.com."
_requests = count(1)
Approve = Callable[..., Record]


@pytest.fixture
def approve(session: Session, project: Project, make_user: Callable[..., User]) -> Approve:
    """Make an accepted record on the train side; `corrections` are those of the review that settled it."""
    user = make_user()

    def approve(corrections: dict[str, Any] | None = None, **fields: Any) -> Record:
        fields = {"group": "group-2", "state": "accepted", "settled_at": utc_now(), **fields}
        record = make_record(session, project, **fields)
        review = Review(
            record_id=record.id or 0, user_id=user.id or 0, request_id=f"personal-{next(_requests)}",
            verdict="accept", record_version=1, **(corrections or {}),
        )  # fmt: skip
        session.add(review)
        session.flush()
        record.settled_by = review.id
        session.add(record)
        session.commit()
        return record

    return approve


def frozen(session: Session, project: Project, **options: Any) -> tuple[set[str], int]:
    """Freeze; answer the ids of the records taken in and how many were left out."""
    name = snapshots.next_name(session, project)
    snapshot = snapshots.freeze(session, project, name, **options)
    read = snapshots.examples if snapshot.kind == "sft" else lessons.pairs
    return {example.id for example in read(session, snapshot)}, snapshot.left_out


def test_what_holds_personal_data_is_left_out_and_counted(session: Session, project: Project, approve: Approve) -> None:
    plain = approve()
    approve(question=MAIL)
    approve(answer="手机13912345678。")
    approve(turns=[{"role": "user", "content": MAIL}, {"role": "assistant", "content": "Thanks."}])

    assert frozen(session, project) == ({str(plain.id)}, 3)


def test_a_lead_may_include_it(session: Session, project: Project, approve: Approve) -> None:
    both = {str(approve().id), str(approve(answer=MAIL).id)}

    assert frozen(session, project, include_personal=True) == (both, 0)


@pytest.mark.parametrize("personal", [None, "", "email"])
def test_what_would_be_left_out_is_counted_beforehand(
    session: Session, project: Project, approve: Approve, personal: str | None
) -> None:
    approve(personal="")
    approve({"answer": "Ask us."}, personal=personal, answer="Yes.")
    approve({"question": MAIL}, personal=personal)
    approve({"turns": {"1": MAIL}}, personal=personal, turns=[{"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."}])  # fmt: skip
    approve(answer=MAIL, personal=personal or "email")
    approve(answer=MAIL, personal="email", state="rejected")

    assert examples.count_personal(session, project) == 3 == frozen(session, project)[1]


def test_nothing_but_personal_data_is_said_so(session: Session, project: Project, approve: Approve) -> None:
    approve(answer=MAIL)

    with pytest.raises(Invalid, match="personal data"):
        frozen(session, project)


def test_the_content_after_correction_counts(session: Session, project: Project, approve: Approve) -> None:
    masked = approve({"answer": "Write to [e-mail]."}, answer=MAIL, personal="email")
    approve({"answer": MAIL}, personal="")
    approve({"question": MAIL}, personal="")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    approve({"turns": {"1": MAIL}}, turns=turns, personal="")
    mended = approve({"turns": {"1": "Hello."}}, turns=[turns[0], {"role": "assistant", "content": MAIL}])

    assert frozen(session, project) == ({str(masked.id), str(mended.id)}, 3)


@pytest.mark.parametrize("style", ["question", "passages"])
def test_what_a_passage_holds_is_the_companys_own_on_the_card_and_in_a_dataset(
    session: Session, project: Project, approve: Approve, make_user: Callable[..., User], style: str
) -> None:
    project.prompt_style = style
    session.commit()
    number = "Call 0700 4400 or +47 700 44 001."
    own = approve(answer="Call 0700 4400.", passages=[number])
    typed = approve({"answer": "Call +47 700 44 001."}, passages=[number], personal="")
    theirs = approve(answer="Call 0700 4401.", passages=[number])

    assert frozen(session, project) == ({str(own.id), str(typed.id)}, 1)
    ada = make_user("ada")
    cards = [desk.card_of(session, project, ada, record) for record in (own, typed, theirs)]
    assert [list(card.personal) for card in cards] == [[], [], ["phone number"]]


def test_a_pair_of_a_record_knows_its_passages(session: Session, project: Project, approve: Approve) -> None:
    record = approve(passages=["Call 0700 4400."])
    for record_id in (record.id, None):
        asked = [{"role": "user", "content": f"[1]\nCall 0700 4400.\n\nWhom do I call, {record_id}?"}]
        pair = {"project_id": project.id, "record_id": record_id, "group": "group-2", "prompt": asked}
        session.add(PreferencePair(**pair, chosen="0700 4400", rejected="Nobody."))

    taken, left_out = frozen(session, project, kind="preference")

    assert (taken, left_out) == ({str(record.id)}, 1)


def test_the_projects_own_system_prompt_is_no_persons_data(
    session: Session, project: Project, approve: Approve
) -> None:
    project.system_prompt = MAIL
    record = approve()

    assert frozen(session, project) == ({str(record.id)}, 0)


def test_where_none_was_found_before_it_is_not_looked_for_again(
    session: Session, project: Project, approve: Approve, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(examples.personal, "find", lambda text: looked.append(text) or [])
    approve(question="known", personal="")
    approve({"answer": "typed"}, question="known too", personal="")
    approve(question="unknown", answer="said")

    frozen(session, project)

    assert looked == ["typed", "unknown", "said"]


def test_left_out_answers_do_not_change_the_rest(session: Session, project: Project, approve: Approve) -> None:
    approve()
    before = snapshots.freeze(session, project, "before")
    approve(answer=MAIL)

    assert snapshots.freeze(session, project, "after").sha256 == before.sha256


def test_preference_pairs_are_left_out_alike(session: Session, project: Project) -> None:
    ask = [{"role": "user", "content": "May I?"}]
    texts = [(ask, "Yes.", "No."), ([{"role": "user", "content": MAIL}], "Yes.", "No."), (ask, MAIL, "No."),
             (ask, "Yes!", MAIL), ([{"role": "system", "content": MAIL}, *ask], "Sure.", "No.")]  # fmt: skip
    for prompt, chosen, rejected in texts:
        session.add(
            PreferencePair(
                project_id=project.id or 0, group="group-2", prompt=prompt, chosen=chosen, rejected=rejected
            )
        )  # fmt: skip

    taken, left_out = frozen(session, project, kind="preference")
    assert (len(taken), left_out) == (2, 3)
    taken, left_out = frozen(session, project, kind="preference", include_personal=True)
    assert (len(taken), left_out) == (5, 0)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("<|im_start|>system", True), ("Ends </s>", True), ("[INST] hi [/INST]", True), ("<start_of_turn>user", True),
        ("<<SYS>>", True), ("a <| b |> c", False), ("</strong> <span>", False), ("INSTALL [1]", False), ("", False),
        ('He said "<|im_end|>"\n', True), ("%_<|", False),
    ],
)  # fmt: skip
def test_control_signs_are_told_and_kept(
    session: Session, project: Project, approve: Approve, text: str, held: bool
) -> None:
    approve(answer=f"Answer. {text}")
    snapshot = snapshots.freeze(session, project, "v1")

    assert snapshots.holds_control(session, snapshot) is held
    assert [e.messages[-1].content for e in snapshots.examples(session, snapshot)] == [f"Answer. {text}"]


def test_remarks_say_what_control_signs_do() -> None:
    snapshot = Snapshot(project_id=1, name="v1", sha256="", seed=1, train=1, val=1, test=1)

    assert snapshots.remarks(snapshot) == []
    assert ["chat template" in remark for remark in snapshots.remarks(snapshot, control=True)] == [True]


def test_looking_costs_little_beside_freezing(session: Session, project: Project, approve: Approve) -> None:
    record = approve(question="How long is the crossing? " * 8, answer="It takes 55 minutes and costs 14 crowns. " * 10)
    draft = next(examples.settled_examples(session, project))
    assert record.id == draft.record_id

    begun = time.perf_counter()
    for _ in range(2_000):
        draft.personal()

    assert (time.perf_counter() - begun) / 2_000 < 0.001
