"""The URL of a MongoDB: what may be shown of it, and what never."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_plus

EXPECTED = (
    "expected mongodb://user:password@host:27017/database, with % : / ? @ in user and password "
    "written as %25 %3A %2F %3F %40"
)

_TOKEN = r"(?:[^/?@:%\x00-\x1f\x7f]|%[0-9A-Fa-f]{2})"
_NAME = r"(?:\[[0-9A-Fa-f:.]+(?:%25[\w.-]+)?\]|[\w.-]+|(?:[\w.-]|%[0-9A-Fa-f]{2})+\.sock)"
_HOST = rf"{_NAME}(?::\d{{1,5}})?"
_DATABASE = r"(?:[^/?#@%:\\$\"\s]|%[0-9A-Fa-f]{2})*"
_URL = re.compile(
    rf"(?P<scheme>mongodb(?:\+srv)?://)(?:(?P<user>{_TOKEN}+)(?P<password>:{_TOKEN}*)?@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?:/(?P<database>{_DATABASE}))?(?:\?(?P<options>[^#@\s]*))?"
)
_SECRET_OPTION = re.compile("password|properties|key|pem", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """A URL that can only be read in one way.

    Attributes
    ----------
    shown : str
        Where it leads: user, hosts and database, without password and options.
    options : tuple of str
        What follows the question mark, ``name=value`` each; may hold secrets.
    secrets : frozenset of str
        The password, and values of options that are or may hold one, in every spelling.
    """

    shown: str
    options: tuple[str, ...] = field(repr=False)
    secrets: frozenset[str] = field(repr=False)

    def without_secrets(self, reason: str) -> str:
        """Return a text about this URL, or that it is not shown because a secret is in it."""
        is_told = any(secret in reason for secret in self.secrets)
        return "the reason is not shown, since it holds a password" if is_told else reason


def read_address(url: str) -> Address | None:
    """Return what a URL says, or None if it is no URL of a MongoDB, or could be read otherwise.

    A password with an unescaped ``/``, ``?``, ``@`` or ``:`` ends somewhere, and nobody can say
    where: such a URL is not one, and no part of it may be shown.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return None
    user, database = found["user"], found["database"]
    login = f"{user}:***@" if found["password"] else f"{user}@" if user else ""
    shown = f"{found['scheme']}{login}{found['hosts']}{f'/{database}' if database else ''}"
    options = tuple(filter(None, re.split("[&;]", found["options"] or "")))
    secrets = {(found["password"] or "")[1:], *_secret_values(options)}
    spellings = {how(secret) for secret in secrets for how in (str, unquote, unquote_plus)}
    return Address(shown, options, frozenset(spellings - {""}))


def _secret_values(options: tuple[str, ...]) -> Iterator[str]:
    for option in options:
        name, _, value = option.partition("=")
        if _SECRET_OPTION.search(name):
            yield from (value, *re.split("[,:]", value))
