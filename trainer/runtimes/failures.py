"""Turn what goes wrong on the wire into sentences for people."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import httpx

from trainer import net
from trainer.runtimes.base import RuntimeUnavailable


@contextmanager
def told(*, down: str, silent: str, broken: str) -> Generator[None]:
    """Raise RuntimeUnavailable with the sentence that fits: nobody there, no more words, or cut off."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise RuntimeUnavailable(down) from error
    except httpx.TimeoutException as error:
        raise RuntimeUnavailable(silent) from error
    except httpx.TransportError as error:
        raise RuntimeUnavailable(broken) from error
    except net.BadAnswer as error:
        raise RuntimeUnavailable(f"{broken} {error}") from error


def clean(text: str) -> str:
    """Make a server's words fit to be shown: one short line of printable letters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:300]
