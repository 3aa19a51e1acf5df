"""Find personal data and secrets in a text, and mask them: own patterns, each with a checksum where there is one.

Every pattern reads a text once: a hostile text of megabytes costs no more than a plain one. What looks like a
number is only taken where its form says so, since prices, dates, times and order numbers are numbers as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from curator.words import N_

KINDS = ("secret", "email", "cn_id", "iban", "card", "cn_mobile", "phone")  # the stronger wins where two overlap
NAMES = {
    "email": N_("e-mail"), "phone": N_("phone number"), "iban": N_("bank account"), "card": N_("payment card"),
    "cn_id": N_("Chinese ID number"), "cn_mobile": N_("Chinese mobile number"), "secret": N_("password or key"),
}  # fmt: skip
PLACEHOLDERS = {
    "email": "[e-mail]", "phone": "[phone]", "iban": "[IBAN]", "card": "[card]",
    "cn_id": "[ID number]", "cn_mobile": "[phone]", "secret": "[secret]",
}  # fmt: skip


class Found(NamedTuple):
    """One piece of personal data: its kind and its span in the text."""

    kind: str
    start: int
    end: int


_narrow: dict[int, str | int | None] = {0x3000: " ", 0xA0: " ", 0x2007: " ", 0x2009: " ", 0x202F: " ", 0x2212: "-"}
_narrow |= {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full width to plain
_narrow |= dict.fromkeys(range(0x2010, 0x2016), "-")

_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-'!#$&*/=?^`{|}~" + "".join(
    map(chr, (*range(0xC0, 0xD7), *range(0xD8, 0xF7), *range(0xF8, 0x250)))
)
_DOMAIN = re.compile(r"(?:[A-Za-z0-9\u00c0-\u024f\-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")

_NUMBERS = re.compile(r"[0-9](?:[ ().\-/]{0,2}[0-9]){6}")
_CN_ID = re.compile(
    r"(?<![0-9A-Za-z])[1-9][0-9]{5}[ -]?(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    r"[ -]?[0-9]{3}[0-9Xx](?![0-9A-Za-z])"
)
_CARD = re.compile(
    r"(?<![0-9])(?<![0-9][.,\-])(?:[2-6][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,4}(?:[ -]?[0-9]{1,3})?"
    r"|3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5}|6[0-9]{5}[ -]?[0-9]{10,13})(?![0-9])(?!-[0-9])"
)
_CN_MOBILE = re.compile(
    r"(?<![0-9A-Za-z])(?<![0-9][.,\-])(?:(?:\+|00)?86[ -]?)?1[3-9][0-9](?:[ -]?[0-9]{4}){2}(?![0-9A-Za-z])"
    r"(?![.\-][0-9])"
)

_LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FO GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL SV NI", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip  # characters of an IBAN by country: SWIFT's IBAN registry
_IBAN_START = re.compile(r"[A-Za-z]{2}[0-9]{2}")  # ten times cheaper to look for than the list of countries
_IBAN = re.compile(
    "(?<![0-9A-Za-z])(?:"
    + "|".join(f"(?:{'|'.join(lands.split())})[0-9]{{2}}(?:[ -]?[A-Z0-9]){{{n - 4}}}" for n, lands in _LENGTHS.items())
    + ")(?![0-9A-Za-z])",
    re.IGNORECASE | re.ASCII,
)

_PHONE = re.compile(
    r"(?<![0-9A-Za-z+])(?<![0-9][.,\-/])(?:"
    r"\+[1-9](?:[ .\-/]?[()]?[ ]?[0-9]){6,14}"  # +44 (0)20 7946 0958
    r"|00[1-9][0-9]{0,2}[ \-/](?:[ .\-/]?[()]?[ ]?[0-9]){6,12}"  # 0044 20 7946 0958
    r"|(?:\(0[1-9][0-9]{0,4}\)[ \-]?|0[1-9][0-9]{0,4}[ ]?[ \-/])[0-9]{2,8}(?:[ \-][0-9]{2,8}){0,4}"  # 020 7946 0958
    r"|0[1-9](?:\.[0-9]{2}){4}"  # 06.12.34.56.78
    r"|(?:1[ .\-])?(?:\([2-9][0-9]{2}\)[ \-]?|[2-9][0-9]{2}[ .\-])[2-9][0-9]{2}[ .\-][0-9]{4}"  # (555) 201-1234
    r")(?![0-9A-Za-z])(?![:.,\-/][0-9])"
)
_TELEPHONE = re.compile(
    r"(?:\b(?:tel|telephone|phone|mobile|cell|fax|whatsapp)\b|电话|手机|座机|致电|拨打|传真|热线)"
    r"[^0-9+\n]{0,15}(\(?[0-9](?:[ ()\-]{0,2}[0-9]){6,14})(?![0-9A-Za-z])(?![:.,\-/][0-9])",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<![0-9])(?:(?:19|20)[0-9]{2}[./\-][0-9]{1,2}[./\-][0-9]{1,2}|[0-9]{1,2}[./\-][0-9]{1,2}[./\-](?:19|20)[0-9]{2})(?![0-9])"
)
_TIMES = re.compile(r"(?:(?:[01]?[0-9]|2[0-4])\.?[0-5][0-9](?:[ \-/]{1,3}|$)){2,}")
_ORDER = re.compile(
    r"(?:\b(?:order|invoice|ticket|booking|ref|reference|case|isbn|id|no|nr)\b\.?|#|订单号?|单号|编号|流水号|号码为?)"
    r"(?:\s?(?:no|number|id|is)\b\.?)?[\s:=#是为]{0,3}$",
    re.IGNORECASE,
)

_SECRETS = (
    ("AKIA", re.compile(r"(?<![0-9A-Za-z])AKIA[0-9A-Z]{16}(?![0-9A-Za-z])")),
    ("ASIA", re.compile(r"(?<![0-9A-Za-z])ASIA[0-9A-Z]{16}(?![0-9A-Za-z])")),
    ("sk-", re.compile(r"(?<![0-9A-Za-z_\-])sk-[A-Za-z0-9_\-]{16,}")),
    ("_live_", re.compile(r"(?<![0-9A-Za-z_])[rs]k_live_[A-Za-z0-9]{16,}")),
    ("gh", re.compile(r"(?<![0-9A-Za-z_])gh[pousr]_[A-Za-z0-9]{30,}")),
    ("github_pat_", re.compile(r"(?<![0-9A-Za-z_])github_pat_[A-Za-z0-9_]{20,}")),
    ("glpat-", re.compile(r"(?<![0-9A-Za-z_\-])glpat-[A-Za-z0-9_\-]{20,}")),
    ("hf_", re.compile(r"(?<![0-9A-Za-z_])hf_[A-Za-z0-9]{30,}")),
    ("xox", re.compile(r"(?<![0-9A-Za-z])xox[abeoprs]-[A-Za-z0-9\-]{10,}")),
    ("AIza", re.compile(r"(?<![0-9A-Za-z_\-])AIza[0-9A-Za-z_\-]{35}(?![0-9A-Za-z_\-])")),
    ("eyJ", re.compile(r"(?<![0-9A-Za-z_\-])eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*")),
    ("earer", re.compile(r"\b[Bb]earer[ \t]{1,3}([A-Za-z0-9._~+/\-]{16,}={0,2})")),
)
_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"[A-Za-z0-9+/=\s\\]*")


def find(text: str) -> list[Found]:
    """Find personal data and secrets; spans do not overlap and come in order.

    Where two kinds overlap the span covers both, under the stronger kind, so that nothing is left over. Full-width
    digits and signs count as plain ones; the offsets are those of the text as given.
    """
    plain = text if text.isascii() else text.translate(_narrow)
    found = sorted(_all(plain), key=lambda one: (one.start, KINDS.index(one.kind)))
    merged: list[Found] = []
    for one in found:
        if merged and one.start < merged[-1].end:
            before = merged[-1]
            kind = min(before.kind, one.kind, key=KINDS.index)
            merged[-1] = Found(kind, before.start, max(before.end, one.end))
        else:
            merged.append(one)
    return merged


def kinds(texts: Iterable[str], passages: Callable[[], Iterable[str]] = tuple) -> list[str]:
    """Answer which kinds of personal data an exchange's texts hold, each once, in alphabetical order.

    This is the one rule, for the card, the filter and datasets. What stands in a passage as well is what the company
    itself tells everybody, such as its telephone number; passages are asked for only when something was found.
    """
    found = {(one.kind, text[one.start : one.end]) for text in texts if text for one in find(text)}
    known = list(passages()) if found else []
    return sorted({kind for kind, words in found if not any(words in passage for passage in known)})


def masked(text: str) -> str:
    """Put a placeholder such as [e-mail] in the place of all personal data; a masked text holds none.

    A number beside a placeholder may look like a telephone number only now, hence the loop.
    """
    while found := find(text):
        parts: list[str] = []
        last = 0
        for one in found:
            parts += (text[last : one.start], PLACEHOLDERS[one.kind])
            last = one.end
        text = "".join((*parts, text[last:]))
    return text


def masked_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """Mask the texts of several fields."""
    return {name: masked(text) for name, text in fields.items()}


def _all(plain: str) -> Iterator[Found]:
    yield from _secrets(plain)
    if "@" in plain:
        yield from _emails(plain)
    if _IBAN_START.search(plain):
        for match in _IBAN.finditer(plain):
            if _is_iban(match[0]):
                yield Found("iban", *match.span())
    if _NUMBERS.search(plain) is None:
        return
    for kind, pattern, check in (("cn_id", _CN_ID, _is_cn_id), ("card", _CARD, _is_card)):
        for match in pattern.finditer(plain):
            if check(match[0]):
                yield Found(kind, *match.span())
    for match in _CN_MOBILE.finditer(plain):
        if not _is_order(plain, match.start()):
            yield Found("cn_mobile", *match.span())
    for pattern, part in ((_PHONE, 0), (_TELEPHONE, 1)):
        for match in pattern.finditer(plain):
            if _is_phone(match[part]) and (part or not _is_order(plain, match.start())):
                yield Found("phone", *match.span(part))


def _secrets(plain: str) -> Iterator[Found]:
    for marker, pattern in _SECRETS:
        if marker in plain:
            for match in pattern.finditer(plain):
                whole = match.lastindex or 0
                if marker not in ("sk-", "earer") or any(sign.isdigit() for sign in match[whole]):
                    yield Found("secret", *match.span(whole))
    if "-----BEGIN " in plain:
        yield from _keys(plain)


def _keys(plain: str) -> Iterator[Found]:
    """Yield private keys: from the line that begins one to the line that ends it, or as far as it looks like one."""
    ends = [match.end() for match in _END.finditer(plain)]
    place = last = 0
    for match in _BEGIN.finditer(plain):
        if match.start() < last:
            continue
        while place < len(ends) and ends[place] < match.end():
            place += 1
        body = _BODY.match(plain, match.end())
        last = ends[place] if place < len(ends) else body.end() if body else match.end()
        yield Found("secret", match.start(), last)


def _emails(plain: str) -> Iterator[Found]:
    """Yield e-mail addresses, from each @ to both sides: reading forwards would read long texts again and again."""
    at = plain.find("@")
    while at >= 0:
        domain = _DOMAIN.match(plain, at + 1)
        if domain:
            before = plain[max(0, at - 64) : at]
            start = at - len(before) + len(before.rstrip(_LOCAL))
            while start < at and not plain[start].isalnum():
                start += 1
            if start < at:
                yield Found("email", start, domain.end())
        at = plain.find("@", at + 1)


def _digits(text: str) -> str:
    return "".join([sign for sign in text if "0" <= sign <= "9"])


def _is_iban(text: str) -> bool:
    """Tell whether the check digits hold: ISO 7064, modulo 97."""
    iban = text.replace(" ", "").replace("-", "").upper()
    return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    """Tell whether these are 13 to 19 digits with a right check digit (Luhn), not one digit again and again."""
    digits = _digits(text)
    total = sum(
        int(digit) if place % 2 == 0 else sum(divmod(2 * int(digit), 10))
        for place, digit in enumerate(reversed(digits))
    )
    return 13 <= len(digits) <= 19 and total % 10 == 0 and len(set(digits)) > 1


def _is_cn_id(text: str) -> bool:
    """Tell whether the check digit of a Chinese resident ID holds: GB 11643, modulo 11."""
    sign = text.replace(" ", "").replace("-", "").upper()
    total = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(sign[:17]))
    return "10X98765432"[total % 11] == sign[17]


def _is_phone(text: str) -> bool:
    """Tell whether a run of digits and separators may be a telephone number: of its length, no dates, no times."""
    digits = _digits(text)
    low = 7 if not text.startswith(("0", "(0")) else 8
    return low <= len(digits) <= 15 and not _DATE.search(text) and not _TIMES.fullmatch(text) and len(set(digits)) > 1


def _is_order(plain: str, start: int) -> bool:
    """Tell whether the words before a number say that it is an order, an invoice or the like."""
    return _ORDER.search(plain[max(0, start - 24) : start]) is not None
