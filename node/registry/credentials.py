"""The credentials that `docker login` stored, for the registries of the node's owner.

Spec: specs/registries.md#credentials.
"""

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from node.registry.reference import HUB
from protocol.values.errors import InvalidRequest

HUB_KEY: Final = "https://index.docker.io/v1/"
"""The name that `docker login` gives to Docker Hub."""
FILE_MAX: Final = 1024 * 1024
HELPER_S: Final = 30
HELPER: Final = re.compile(r"[\w.-]+", re.ASCII)
TOKEN_USER: Final = "<token>"  # noqa: S105 - a name, not a password.
"""The user name for which a helper returns an identity token."""
NOTHING_STORED: Final = "credentials not found"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password at one registry, or an identity token instead."""

    user: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


async def find_credentials(registry: str) -> Credentials | None:
    """Return the credentials for a registry, None if there are none.

    They are in `config.json` of DOCKER_CONFIG or ~/.docker, or a credential helper named there has
    them. InvalidRequest if the file is malformed or the helper fails.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    document = await trio.to_thread.run_sync(_read, path)
    key = HUB_KEY if registry == HUB else registry
    helper = _table(path, document, "credHelpers").get(key) or document.get("credsStore")
    if helper:
        return await _ask_helper(path, str(helper), key)
    auths = _table(path, document, "auths")
    for name in (key, f"https://{registry}", f"http://{registry}", f"https://{registry}/v1/"):
        if isinstance(entry := auths.get(name), dict) and entry:
            return _decoded(path, name, entry)
    return None


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(FILE_MAX))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"cannot read {path}: {error}") from None
    if not isinstance(document, dict):
        raise _malformed(path, "it is no JSON object")
    return document


def _table(path: Path, document: dict[str, object], key: str) -> dict[str, object]:
    table = document.get(key) or {}
    if not isinstance(table, dict):
        raise _malformed(path, f"{key} is no JSON object")
    return table


def _decoded(path: Path, name: str, entry: dict[str, object]) -> Credentials:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(TOKEN_USER, identity_token=token)
    try:
        text = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    user, colon, password = text.partition(":")
    if not colon:
        raise _malformed(path, f"the entry of {name} has no valid auth")
    return Credentials(user, password.strip("\0"))


async def _ask_helper(path: Path, helper: str, key: str) -> Credentials | None:
    if not HELPER.fullmatch(helper):
        raise _malformed(path, f"{helper!r:.80} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        with trio.fail_after(HELPER_S):
            done = await trio.run_process(
                [program, "get"], stdin=key.encode(), capture_stdout=True, capture_stderr=True,
                check=False,
            )  # fmt: skip
    except OSError as error:
        raise InvalidRequest(
            f"cannot run {program}, which {path} names: {error.strerror}"
        ) from None
    except trio.TooSlowError:
        raise InvalidRequest(f"{program} gave no answer within {HELPER_S} s") from None
    told = done.stdout.decode(errors="replace").strip()
    if done.returncode and NOTHING_STORED in told:
        return None
    try:
        answer = json.loads("" if done.returncode else told)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, TypeError, KeyError):
        # What a helper prints may be a secret.
        raise InvalidRequest(
            f"{program} failed with code {done.returncode}: run `docker login {key}` again"
        ) from None
    if user == TOKEN_USER:
        return Credentials(user, identity_token=secret)
    return Credentials(user, secret)


def _malformed(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: {why}: run `docker login` again")
