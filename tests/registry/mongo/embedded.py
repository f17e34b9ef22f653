"""Embedded servers as they were before they asked for a password, and what strangers may not do."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest

from registry.mongo import server
from registry.mongo.server import Server
from registry.record.liveness import ProcessIdentity
from registry.store.durable import write_json


def start_as_before(root: Path) -> subprocess.Popen[bytes]:
    """Start a server as they were: on absolute paths, and for everybody. Return it."""
    folder = root / ".factbook/mongo"
    for name in ("user.json", "server.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "data", ignore_errors=True)
    (folder / "server.toml").touch()
    options = (f"--config={folder / 'server.toml'}", f"--storage-path={folder / 'data'}")
    process = subprocess.Popen(
        [server._program(), *options, "--host=127.0.0.1", "--port=0", "--sync-on-commit"],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not (ports := server._listening(process.pid)):
        time.sleep(0.02)
    facts = {**ProcessIdentity.of(process.pid).facts(), "port": ports[0]}
    write_json(folder / "server.json", facts)
    with pymongo.MongoClient(f"mongodb://127.0.0.1:{ports[0]}") as client:
        client["factbook"]["runs"].insert_one({"_id": 1})
        client["admin"].command("createUser", "mallory", pwd="x", roles=["root"])
    return process


def is_closed(found: Server) -> bool:
    """Whether a server neither tells nor takes anything without its password."""
    for login in ("factbook:guessed@", "mallory:x@"):
        with pymongo.MongoClient(f"mongodb://{login}127.0.0.1:{found.port}/") as client:
            refused(client.list_database_names)
    with pymongo.MongoClient(found.address) as client:
        refused(client.list_database_names)
        refused(client["factbook"]["runs"].find_one)
        refused(client["factbook"]["runs"].insert_one, {"planted": 1})
        refused(client["admin"].command, "createUser", "m", pwd="m", roles=["root"])
        refused(client["admin"].command, "usersInfo", 1)
        refused(client["admin"].command, "getLog", "global")
        refused(client["admin"].command, "fsync")
    return True


def refused(attempt: Callable[..., Any], *given: Any, **named: Any) -> None:
    with pytest.raises(pymongo.errors.OperationFailure, match="authentication"):
        attempt(*given, **named)
