"""URLs of MongoDB: where they lead is shown, and no character of a password ever."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from registry.mongo.address import read_address
from registry.mongo.database import DatabaseError, connect

QUICK = "serverSelectionTimeoutMS=1&connectTimeoutMS=1"
READABLE = {
    "mongodb://a:b@c/d": "mongodb://a:***@c/d",
    "mongodb://a:b c@d": "mongodb://a:***@d",
    "mongodb://a:b%40%2F@c:1,d:2/e?f=g": "mongodb://a:***@c:1,d:2/e",
    "mongodb+srv://a:b#c@d.example.org/e?tls=true": "mongodb+srv://a:***@d.example.org/e",
    "mongodb://c:27017/d": "mongodb://c:27017/d",
    "mongodb://a@c": "mongodb://a@c",
    "mongodb://a:@c": "mongodb://a:***@c",
    "mongodb://a:b@[::1]:27017,[fe80::1%25en0]/": "mongodb://a:***@[::1]:27017,[fe80::1%25en0]",
    "mongodb://%2Ftmp%2Fmongodb-27017.sock/d": "mongodb://%2Ftmp%2Fmongodb-27017.sock/d",
    "mongodb://a:b@c?tls=true": "mongodb://a:***@c",
}
SECRET = "QXZQ"
UNREADABLE = (
    f"mongodb://user:{SECRET}/a@host/",
    f"mongodb://user:{SECRET}?a@host/",
    f"mongodb://user:{SECRET}@a@host/",
    f"mongodb://user:{SECRET}:a@host/",
    f"mongodb://user:{SECRET}%@host/",
    f"mongodb://user:12/{SECRET}@host",
    f"mongodb://user:12/{SECRET}@host/db",
    f"mongodb://user:12/?{SECRET}@host",
    f"mongodb://user:12?{SECRET}@host",
    f"mongodb://user:12#{SECRET}@host/a@b",
    f"mongodb://user:a@{SECRET}@host/",
    f"mongodb://user:a@{SECRET}/b@host/",
    f"mongodb://user:a@b,{SECRET}@host/",
    f"mongodb://user:{SECRET}",
    f"mongodb://user:{SECRET}\n@host",
    f"user:{SECRET}@host",
    f"http://user:{SECRET}@host/",
    f"mongodb:/user:{SECRET}@host",
    f"mongodb://user:{SECRET}@host/a b",
    f"mongodb://user:{SECRET}@host/a/b",
    f"mongodb://user:{SECRET}@ho%20st/",
)
REFUSED = (
    f"mongodb://user:{SECRET}@host:99999/",
    f"mongodb://user:{SECRET}@host/db?authMechanism=none",
    f"mongodb://user:{SECRET}@host/db?{SECRET}",
    f"mongodb://user:a@host/?authMechanismProperties={SECRET}",
    f"mongodb://user:a@host/?authMechanism=MONGODB-AWS&authMechanismProperties=A:{SECRET}",
    f"mongodb://host/?tls=true&tlsCertificateKeyFile=/nowhere&tlsCertificateKeyFilePassword={SECRET}",
    f"mongodb://host/?tlsCertificateKeyFilePasswrd={SECRET}",
    f"mongodb://user:{SECRET}@a,b/?directConnection=true",
    f"mongodb+srv://user:{SECRET}@a,b/",
    f"mongodb+srv://user:{SECRET}@host:1/",
)


@pytest.mark.parametrize("url", READABLE)
def test_what_is_shown(url: str) -> None:
    address = read_address(url)
    assert address is not None
    assert address.shown == READABLE[url]


def told(url: str) -> str:
    """Return all that an attempt to connect says, which must fail."""
    with pytest.raises(DatabaseError) as caught:
        connect(Path(), url)
    chain, error = [], caught.value
    while error is not None:
        chain.append(f"{error} {error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(chain)


@pytest.mark.parametrize("url", UNREADABLE)
def test_what_could_be_read_otherwise_is_not_shown_at_all(url: str) -> None:
    assert read_address(url) is None
    said = told(url)
    assert not set(SECRET) & set(said)
    assert "expected mongodb://user:password@host:27017/database" in said


@pytest.mark.parametrize("url", REFUSED)
def test_reasons_show_no_secret(url: str) -> None:
    said = told(url)
    assert SECRET not in said
    assert "user" in said or "host" in said


PIECES = [*"QXZ", *" /@:?#%&=+,;[]!$'\"\\ß", "12", "%40"]
PASSWORDS = st.lists(st.sampled_from(PIECES), min_size=1)
PLACES = (
    "@127.0.0.1:9",
    "@127.0.0.1:9/db",
    "@127.0.0.1:9,127.0.0.1:10/?",
    "@127.0.0.1:9/?w=1&",
    "",
)


@pytest.mark.slow
@given(st.sampled_from(["mongodb://", "mongodb+srv://", ""]), PASSWORDS, st.sampled_from(PLACES))
def test_no_part_of_a_password_is_ever_told(scheme: str, parts: list[str], place: str) -> None:
    """Whatever stands in it, and wherever it may seem to end: letters that nothing else has."""
    assume(place or "@" not in parts)  # what follows would be a host, by any reading
    password = "Q" + "".join(parts)
    query = QUICK if place.endswith(("?", "&")) else f"?{QUICK}" if "/" in place else f"/?{QUICK}"
    said = told(f"{scheme}someone:{password}{place}{query if place else ''}")
    assert not set("QXZß") & set(said)


@pytest.mark.slow
@settings(max_examples=12)  # half a second each
@given(PASSWORDS, st.sampled_from([quote, quote_plus]))
def test_an_escaped_password_is_used_and_not_told(parts: list[str], escape: object) -> None:
    password = "Q" + "".join(parts)
    escaped = quote(password, safe="") if escape is quote else quote_plus(password)
    said = told(f"mongodb://someone:{escaped}@127.0.0.1:9/db?{QUICK}")
    assert "mongodb://someone:***@127.0.0.1:9/db" in said
    assert not set("QXZß") & set(said)
