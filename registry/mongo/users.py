"""The user of an embedded server: one, with a password of its own that only files hold."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from registry.store.durable import read_json, whole_file_told
from registry.suggest import RefusalError

_PATIENCE = {"serverSelectionTimeoutMS": 10000, "connectTimeoutMS": 10000}
_HOME = "admin"  # the database that knows users
_SERVERS_OWN = {"admin", "config", "local"}


class ServerError(RefusalError):
    """An embedded server that cannot be started, found, used or stopped."""


@dataclass(frozen=True)
class User:
    """Who may use a server.

    Attributes
    ----------
    name, password : str
        Of letters, digits, ``-`` and ``_`` alone, so that they stand in a URL as they are.
    """

    name: str
    password: str = field(repr=False)

    def url(self, host: str, port: int, database: str = "") -> str:
        """Return what MongoDB clients connect to."""
        login = f"{self.name}:{self.password}"
        return (
            f"mongodb://{login}@{host}:{port}/{database}?directConnection=true&authSource={_HOME}"
        )


def new_user() -> User:
    """Return a user with a random password of 256 bits."""
    return User("factbook", secrets.token_urlsafe(32))


def read_user(path: Path) -> User | None:
    """Return the user that a file holds, or None where none is to be read."""
    found = read_json(path) or {}
    name, password = found.get("user"), found.get("password")
    return User(name, password) if isinstance(name, str) and isinstance(password, str) else None


def write_user(path: Path, user: User) -> None:
    """Write a user to a file that only its owner reads, whole or not at all.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    text = json.dumps({"user": user.name, "password": user.password}) + "\n"
    with whole_file_told(path, len(text)) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def admit(user: User, host: str, port: int) -> None:
    """Make a server that lets everybody in know its user.

    Raises
    ------
    ServerError
        If it does not.
    """
    with _client(f"mongodb://{host}:{port}/?directConnection=true") as client:
        admin = client[_HOME]
        admin.command("dropAllUsersFromDatabase")
        admin.command("createUser", user.name, pwd=user.password, roles=["root"])


def admit_nobody_else(user: User, host: str, port: int, *, is_new: bool) -> None:
    """Remove from a server that knows its user whoever came while it let everybody in.

    Parameters
    ----------
    user : User
        Who stays.
    host, port : str, int
        Where the server listens.
    is_new : bool
        Whether its data were made a moment ago, so that what is there is somebody else's.

    Raises
    ------
    ServerError
        If the server does not take its user.
    """
    with _client(user.url(host, port)) as client:
        for other in list(client[_HOME]["system.users"].find()):
            if (other["db"], other["user"]) != (_HOME, user.name):
                client[other["db"]].command("dropUser", other["user"])
        for name in set(client.list_database_names()) - _SERVERS_OWN if is_new else ():
            client.drop_database(name)


@contextmanager
def _client(url: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    patience: Any = _PATIENCE
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url, **patience)
    try:
        yield client
    except PyMongoError as error:
        raise ServerError(f"the embedded database does not take its user: {error}") from error
    finally:
        client.close()
