"""Personal data is found where it is, not in every number, and a mask leaves none of it."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.services.personal import KINDS, PLACEHOLDERS, find, kinds, masked

TOKEN = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc==\n-----END RSA PRIVATE KEY-----"
NOTHING = [
    "", " ", "@", "a@", "@b.com", "a @ b.com", "a@b", "@@@@", "see you @ 10.30", "\u202e\x00",
    "Sailings 06:30 08:15 10:00 and 17:45.", "0630 0815 1000 1145", "06.30 08.15 10.00", "open 0800-1730",
    "01.02.2024 10:30", "2024-01-02 and 02/03/2024", "2024-05-01T10:00:00Z", "from 2024-01-02 to 2024-03-04",
    "price 1,200.50 or 4 000 000 crowns", "1.234.567,89", "14 crowns, 6.50 crowns, 30 kg", "¥1,299.00",
    "order 020 7946 0958", "Order no. 13912345678", "订单号：13912345678", "invoice #010-62345678",
    "139123456789", "213912345678", "A13912345678", "12345678901", "1234567890", "3.13912345678", "20240102030405",
    "4111 1111 1111 1112", "4111-1111-1111-1112", "0000 0000 0000 0000", "4444444444444444", "1712345678901",
    "110105194912310021", "110105194913310021", "DE89370400440532013001", "GB29NWBK6016133192681",
    "XX89370400440532013000",
    "192.168.100.200", "10.0.0.1:8080", "978-3-16-148410-0", "v1.2.3", "3.14159265358979",
    "sk-learn", "sk-learn-is-a-library-for-machine-learning", "risk-based-approach-to-2024-planning",
    "ghp_short", "AKIA123",
    "Bearer authentication-is-required-here", "eyJhbGci.x.y",
    "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
    "Call 112 or 999.", "phone 2 times", "电话 10086", "Boats 1 2 3 4 5 6 7 8 9",
]  # fmt: skip
SOMETHING = [
    ("mail bob.o'neil+x@foo-bar.co.uk.", "email", "bob.o'neil+x@foo-bar.co.uk"),
    ("邮箱是anna@example.com，谢谢", "email", "anna@example.com"),
    ("(anna@example.com)", "email", "anna@example.com"),
    ("ａｎｎａ＠ｅｘａｍｐｌｅ．ｃｏｍ", "email", "ａｎｎａ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
    ("anna＠example.com", "email", "anna＠example.com"),
    ("+44 (0)20 7946 0958!", "phone", "+44 (0)20 7946 0958"),
    ("+4930123456", "phone", "+4930123456"),
    ("0044 20 7946 0958", "phone", "0044 20 7946 0958"),
    ("call 020 7946 0958.", "phone", "020 7946 0958"),
    ("（010）62345678", "phone", "（010）62345678"),
    ("0571-88888886转2", "phone", "0571-88888886"),
    ("+1\u2011555\u2011201\u20111234", "phone", "+1\u2011555\u2011201\u20111234"),
    ("06.12.34.56.78", "phone", "06.12.34.56.78"),
    ("06 12 34 56 78", "phone", "06 12 34 56 78"),
    ("(555) 201-1234", "phone", "(555) 201-1234"),
    ("1-800-555-1234", "phone", "1-800-555-1234"),
    ("Phone: 5552011", "phone", "5552011"),
    ("电话：62345678。", "phone", "62345678"),
    ("IBAN DE89 3704 0044 0532 0130 00 BIC X", "iban", "DE89 3704 0044 0532 0130 00"),
    ("gb29nwbk60161331926819", "iban", "gb29nwbk60161331926819"),
    ("NO93 8601 1117 947", "iban", "NO93 8601 1117 947"),
    ("MT84 MALT 0110 0001 2345 MTLC AST0 01S", "iban", "MT84 MALT 0110 0001 2345 MTLC AST0 01S"),
    ("card 4111 1111 1111 1111,", "card", "4111 1111 1111 1111"),
    ("4111-1111-1111-1111", "card", "4111-1111-1111-1111"),
    ("卡号4111111111111111。", "card", "4111111111111111"),
    ("4222222222222", "card", "4222222222222"),
    ("3782 822463 10005", "card", "3782 822463 10005"),
    ("6212345678901232", "card", "6212345678901232"),
    ("4000 0000 0000 0000 006", "card", "4000 0000 0000 0000 006"),
    ("４１１１ １１１１ １１１１ １１１１", "card", "４１１１ １１１１ １１１１ １１１１"),
    ("身份证11010519491231002X。", "cn_id", "11010519491231002X"),
    ("11010519491231002x", "cn_id", "11010519491231002x"),
    ("110105 19491231 002X", "cn_id", "110105 19491231 002X"),
    ("手机13912345678。", "cn_mobile", "13912345678"),
    ("139 1234 5678", "cn_mobile", "139 1234 5678"),
    ("139-1234-5678", "cn_mobile", "139-1234-5678"),
    ("１３９１２３４５６７８", "cn_mobile", "１３９１２３４５６７８"),
    ("+86 13912345678", "cn_mobile", "+86 13912345678"),
    ("key AKIAIOSFODNN7EXAMPLE.", "secret", "AKIAIOSFODNN7EXAMPLE"),
    (f"sk-proj-{TOKEN}", "secret", f"sk-proj-{TOKEN}"),
    (f"ghp_{TOKEN}", "secret", f"ghp_{TOKEN}"),
    (f"github_pat_{TOKEN}_x", "secret", f"github_pat_{TOKEN}_x"),
    ("xoxb-123456789012-abcDEF", "secret", "xoxb-123456789012-abcDEF"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_9", "secret", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_9"),
    (f"Authorization: Bearer {TOKEN}", "secret", TOKEN),
    (f"a {KEY} b", "secret", KEY),
    (KEY[:43], "secret", KEY[:43]),
    (KEY.replace("\n", "\\n").replace("RSA ", ""), "secret", KEY.replace("\n", "\\n").replace("RSA ", "")),
]  # fmt: skip


@pytest.mark.parametrize("text", NOTHING)
def test_not_every_number_and_sign_is_personal(text: str) -> None:
    assert find(text) == []
    assert masked(text) == text


@pytest.mark.parametrize(("text", "kind", "part"), SOMETHING)
def test_each_kind_is_found_with_its_span_in_the_text_as_given(text: str, kind: str, part: str) -> None:
    assert [(one.kind, text[one.start : one.end]) for one in find(text)] == [(kind, part)]
    assert masked(text) == text.replace(part, PLACEHOLDERS[kind])


def test_several_are_found_in_order() -> None:
    text = "Anna, anna@example.com, 13912345678 or +44 20 7946 0958; card 4111 1111 1111 1111."

    assert [one.kind for one in find(text)] == ["email", "cn_mobile", "phone", "card"]
    assert masked(text) == "Anna, [e-mail], [phone] or [phone]; card [card]."


def test_where_two_overlap_nothing_is_left_over() -> None:
    assert masked("sk-13912345678x4111111111111111") == "[secret]"
    assert masked("https://bob:AKIAIOSFODNN7EXAMPLE@host.example.com") in (
        "https://bob:[secret]", "https://[secret]", "[secret]",
    )  # fmt: skip


def test_two_keys_are_two_and_what_lies_between_stays() -> None:
    assert masked(f"{KEY} and {KEY}") == "[secret] and [secret]"


def test_kinds_of_several_texts_come_sorted_and_once() -> None:
    assert kinds(["13912345678", "a@b.com c@d.com", "nothing", "a@b.com"]) == ["cn_mobile", "email"]
    assert kinds([]) == []


@pytest.mark.parametrize(
    "piece",
    ["a", "@", "a@", "a@a.", "1", "1 ", "12-", "+1", "(", "0", "00", "1.", "eyJ", "eyJaaaaaaaa.", "sk-", "sk-a1",
     "Bearer ",
     "GB29 ", "DE89 3704 0044 ", "GB29NWBK", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-----END PRIVATE KEY-----",
     "AKIA", "ghp_", "xoxb-", "phone ", "phone 1", "4111 1111 ", "4111111111111112 ", "139 ", "1391234 ",
     "11010519491231002",
     "tel(((((((", "\uff11", "ａ＠", "0 1 ", "020 7946 ", "order 13912345678 ", "13912345678 ",
     "a@b.co ", "4111111111111111 "],
)  # fmt: skip
def test_two_million_hostile_characters_end_quickly(piece: str) -> None:
    text = (piece * (2_000_000 // len(piece) + 1))[:2_000_000]
    begun = time.perf_counter()

    assert find(masked(text)) == []

    assert time.perf_counter() - begun < 8


PARTS = st.one_of(
    st.sampled_from([text for text, _, _ in SOMETHING] + NOTHING + list(PLACEHOLDERS.values())),
    st.text(alphabet="0123456789 -+@.()abkXsEy\n１＠中", max_size=20),
    st.text(max_size=6),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PARTS, max_size=8).map("".join))
def test_masking_leaves_nothing_and_is_done_once(text: str) -> None:
    once = masked(text)

    assert find(once) == []
    assert masked(once) == once
    found = find(text)
    assert all(0 <= one.start < one.end <= len(text) and one.kind in KINDS for one in found)
    assert all(one.end <= two.start for one, two in pairwise(found))


def test_what_a_passage_holds_as_well_is_the_companys_own() -> None:
    assert kinds(["Call +49 30 901820"], lambda: ["Our desk: +49 30 901820."]) == []
    assert kinds(["Call +49 30 901820 or +49 30 111222"], lambda: ["Our desk: +49 30 901820."]) == ["phone"]
