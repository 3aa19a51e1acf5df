"""What searches must find, whatever the database: tests run this table on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from curator.services import search
from db.models import Project, Record
from tests.factories import make_record

RECORDS: dict[str, tuple[str, str, Sequence[str]]] = {  # name: question, answer, passages
    "leave": ("How much annual leave do I get?", "Five days of annual leave after a year.", ()),
    "leaves": ("When do the leaves fall?", "In autumn; an annual event.", ("Leave your shoes at the door.",)),
    "policy": ("年假政策是什么？", "员工入职满一年后享有五天年假。", ("病假须提交证明。",)),
    "broken": ("今年。假如下雨怎么办？", "船照常开。", ()),
    "wrapped": ("有多少天？", "根据员工手册，年\n假为五天。", ()),
    "apart": ("我有年假，假政策。", "无。", ()),
    "far": ("年节放假吗？", "放。", ()),
    "phone": ("iPhone手机怎么退？", "Ｅ－ｍａｉｌ： REFUND@example.com", ()),
    "accent": ("Où est le Café Zürich?", "Straße 12, naïve Ǆ, e-mail: café@example.com", ()),
    "code": ("What does SELECT * FROM t WHERE a = 'x' AND NOT b do?", 'It\'s a "query"; x_y + C:\\path\\file', ()),
    "kana": ("カバンはどこですか", "ﾊﾞｽの中です。", ()),
    "korean": ("휴가를 얼마나 받나요?", "5일입니다.", ()),
    "thai": ("กำลังใจคืออะไร", "ดี", ()),
    "hindi": ("छुट्टी कितनी है?", "पाँच दिन।", ()),
    "invisible": ("zero\u200dwidth joi\u00adner Z\u0351a\u0352l\u0353g\u0354o", "\u202eright to left\u202c שָׁלוֹם", ()),
    "signs": ("?!", "…", ("\u3000",)),
    "numbers": ("Is 3.14 less than 22/7 or ３．１４？", "1,000,000 times ½", ()),
    "across": ("The question ends with ferry", "tickets begin the answer", ()),
}

FOUND: dict[str, str] = {  # what is typed: the names of what is found
    # English: words, all of them, in any case and width
    "annual": "leave leaves", "ANNUAL LEAVE": "leave leaves", "leave": "leave leaves", "leaves": "leaves",
    "annual shoes": "leaves", "annual nowhere": "", "ｌｅａｖｅｓ": "leaves", "days year": "leave",
    # phrases
    '"annual leave"': "leave", '"leave annual"': "", '"annual event"': "leaves", "“annual leave”": "leave",
    '"annual leave" five': "leave", '"ferry tickets"': "", "ferry tickets": "across", '"the answer"': "across",
    # beginnings
    "leav*": "leave leaves", "leave*": "leave leaves", "aut*": "leaves", '"annual lea"*': "leave",
    '"annual ev*"': "leaves", "xyz*": "", "ref*": "phone", "l*": "", "refund＊": "phone",
    # Chinese: one character, two, more; only what stands side by side
    "年": "policy broken wrapped apart far", "假": "policy broken wrapped apart far", "年假": "policy wrapped apart",
    "假政": "policy apart",
    "年假政策": "policy", "年假 政策": "policy apart", "病假": "policy", "假年": "",
    "年，假": "policy broken wrapped apart far",
    "“五天年假”": "policy", "年假，病假": "policy", "年假/病假": "policy", "年 假": "policy broken wrapped apart far",
    "船": "broken", "假如": "broken", "年假*": "policy wrapped apart", "年*": "policy broken wrapped apart far",
    # both together, and other scripts
    "iPhone手机": "phone", "手机": "phone", "iphone": "phone", "机怎": "phone", "iPhone 怎么退": "phone",
    '"手机 iphone"': "", "バス": "kana", "ﾊﾞｽ": "kana", "ハス": "", "カバン": "kana", "バ": "kana",
    "휴가": "korean", "휴가를": "korean", "가를": "korean", "กำลัง": "thai", "छुट्टी": "hindi",
    "cafe": "accent", "CAFÉ": "accent", "zurich": "accent", "strasse": "accent", "naive": "accent", "ǆ": "accent",
    "שלום": "invisible", "zerowidth": "invisible", "zalgo": "invisible", "joiner": "invisible",
    # signs are no operators
    "refund@example.com": "phone", "e-mail": "phone accent", '"e mail"': "phone accent", "e": "phone accent",
    "SELECT": "code", "x AND NOT b": "code", "annual OR ferry": "", "NOT": "code", "NEAR(a b)": "", "a AND b": "code",
    "annual NOT leave": "", "x_y": "code", "C:\\path\\file": "code", "it's": "code", "*": "", "tokens:a": "",
    '"': "", '""': "", '"annual': "leave leaves", 'annual"': "leave leaves", '"annual" "leave"': "leave leaves",
    "^annual": "leave leaves", "-annual": "leave leaves", "(annual": "leave leaves", "annual)": "leave leaves",
    "annual:": "leave leaves", "'annual'": "leave leaves", "annual | shoes": "leaves", "!annual": "leave leaves",
    "annual <-> shoes": "leaves", "annual & !shoes": "leaves", "{annual}": "leave leaves", "\\": "", "'": "", "?!": "",
    "": "", "   ": "", "annual:*": "leave leaves", "annual +leave": "leave leaves", "--": "", "%": "", "_": "",
    "3.14": "numbers", "22/7": "numbers", "1,000,000": "numbers", "½": "numbers", "3": "numbers",
    "\ue000": "", "\0annual": "leave leaves", "\ud800": "", "🙂": "", "年🙂假": "policy broken wrapped apart far",
}  # fmt: skip


def make_records(session: Session, project: Project) -> None:
    """Make the table's records and index them."""
    made = [
        make_record(session, project, external_id=name, question=question, answer=answer, passages=passages)
        for name, (question, answer, passages) in RECORDS.items()
    ]
    search.put(session, made)
    session.commit()


def names(session: Session, asked: str) -> str:
    """Answer the names of what a search finds, in the order of the table."""
    query = search.among(session, select(Record.external_id), asked).order_by(col(Record.id))
    return " ".join(session.exec(query).all())
