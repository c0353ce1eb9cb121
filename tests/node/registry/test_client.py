"""Tokens, redirects, limits: what a registry may say to one request.

Spec: specs/registries.md#requests.
"""

import base64
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from node.registry import client as client_module
from node.registry.client import RegistryClient
from node.registry.credentials import Credentials
from node.registry.errors import (
    ReferenceNotFound,
    RegistryDenied,
    RegistryLied,
    RegistryUnavailable,
)
from node.registry.reference import Reference
from protocol.values.ids import digest_of
from tests.node.registry.hostile_registry import Asked, HostileRegistry, Reply, serving, sha

PATH = "/v2/team/app/manifests/1"
ADA = Credentials("ada", "s3cret")
BASIC = f"Basic {base64.b64encode(b'ada:s3cret').decode()}"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSE_S", 0.001)


@asynccontextmanager
async def asking(registry: HostileRegistry, credentials: Credentials | None = None):
    client = RegistryClient(Reference.parse(f"{registry.name}/team/app:1"), credentials)
    try:
        yield client
    finally:
        await client.close()


async def manifest(registry: HostileRegistry, credentials: Credentials | None = None) -> bytes:
    async with asking(registry, credentials) as client:
        return await client.manifest("1")


def wants_token(registry: HostileRegistry, realm: str = ""):
    """Return a script of a registry with a token server."""
    challenge = f'Bearer realm="{realm or f"http://{registry.name}/token"}",service="s",scope="x"'

    def answer(asked: Asked) -> Reply | None:
        if asked.path.startswith("/token"):
            return Reply(json.dumps({"token": "t0k"}).encode())
        if asked.headers.get("authorization") != "Bearer t0k":
            return Reply(status=401, headers={"www-authenticate": challenge})
        return None

    return answer


async def test_an_anonymous_token(hostile) -> None:
    data = hostile.add_image(b"")
    hostile.script = wants_token(hostile)
    assert await manifest(hostile) == data
    asked = hostile.asked[1]
    assert asked.path == "/token?service=s&scope=repository%3Ateam%2Fapp%3Apull"
    assert "authorization" not in asked.headers
    assert "application/vnd.oci.image.index.v1+json" in hostile.asked[2].headers["accept"]


async def test_a_token_for_credentials(hostile) -> None:
    data = hostile.add_image(b"")
    hostile.script = wants_token(hostile)
    assert await manifest(hostile, ADA) == data
    seen = [each.headers.get("authorization") for each in hostile.asked]
    assert seen == [None, BASIC, "Bearer t0k"]  # Only the token server sees the password.
    assert await manifest(hostile, Credentials("<token>", identity_token="refresh")) == data
    assert hostile.asked[-2].method == "POST"
    assert b"refresh_token=refresh" in hostile.asked[-2].body


async def test_a_password_for_the_registry_itself(hostile) -> None:
    data = hostile.add_image(b"")

    def answer(asked: Asked) -> Reply | None:
        if asked.headers.get("authorization") != BASIC:
            return Reply(status=401, headers={"www-authenticate": 'Basic realm="x"'})
        return None

    hostile.script = answer
    assert await manifest(hostile, ADA) == data
    with pytest.raises(RegistryDenied, match="docker login"):
        await manifest(hostile)
    with pytest.raises(RegistryDenied):
        await manifest(hostile, Credentials("ada", "wrong"))


@pytest.mark.parametrize(
    "challenge, line",
    [
        ('Bearer realm="file:///etc/passwd"', "no URL with TLS"),
        ('Bearer realm="http://[::1"', "no URL with TLS"),
        ("Bearer", "no URL with TLS"),
        ("Digest x", "denies access to team/app"),
        ("", "denies access to team/app"),
    ],
)
async def test_a_challenge_that_cannot_be_met(hostile, challenge: str, line: str) -> None:
    hostile.script = lambda _: Reply(status=401, headers={"www-authenticate": challenge})
    with pytest.raises((RegistryUnavailable, RegistryDenied), match=line):
        await manifest(hostile, ADA)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\nb"}'])
async def test_an_answer_without_a_token(hostile, body: bytes) -> None:
    wanting = wants_token(hostile)
    hostile.script = lambda asked: Reply(body) if "token" in asked.path else wanting(asked)
    with pytest.raises(RegistryUnavailable, match="token"):
        await manifest(hostile)


async def test_another_host_does_not_get_the_token(hostile) -> None:
    async with serving() as store:
        store.content["/stored"] = b"bytes"
        digest = digest_of(b"bytes")
        wanting = wants_token(hostile)

        def answer(asked: Asked) -> Reply | None:
            elsewhere = Reply(status=307, headers={"location": f"http://{store.name}/stored"})
            return wanting(asked) or (elsewhere if "blobs" in asked.path else None)

        hostile.script = answer
        async with asking(hostile) as client, client.blob(digest, 0) as found:
            assert [await found.read(), await found.read()] == [b"bytes", b""]
        assert hostile.asked[-1].headers["authorization"] == "Bearer t0k"
        assert "authorization" not in store.asked[0].headers


async def test_redirects_end(hostile) -> None:
    hostile.script = lambda asked: Reply(status=302, headers={"location": asked.path})
    with pytest.raises(RegistryUnavailable, match="more than 5 times"):
        await manifest(hostile)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_registry_is_asked_again(hostile, status: int) -> None:
    data = hostile.add_image(b"")
    answers = iter([Reply(status=status, headers={"retry-after": "0"}), Reply(status=status)])
    hostile.script = lambda _: next(answers, None)
    assert await manifest(hostile) == data
    assert hostile.paths() == [PATH] * 3
    hostile.script = lambda _: Reply(status=status)
    with pytest.raises(RegistryUnavailable, match="try again later"):
        await manifest(hostile)


@pytest.mark.parametrize("after", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
async def test_a_long_wait_is_told_not_taken(hostile, after: str) -> None:
    hostile.script = lambda _: Reply(status=429, headers={"retry-after": after})
    with pytest.raises(RegistryUnavailable, match=r"asks to wait \d+ s: try again then"):
        await manifest(hostile)
    assert len(hostile.asked) == 1


async def test_what_is_not_there(hostile) -> None:
    with pytest.raises(ReferenceNotFound, match="has no team/app:1: check name and tag"):
        await manifest(hostile)


async def test_a_registry_that_is_down() -> None:
    async with serving() as registry:
        name = registry.name
    registry.name = name
    with pytest.raises(RegistryUnavailable, match=f"{name}: it cannot be reached"):
        await manifest(registry)


async def test_lies_about_a_manifest(hostile) -> None:
    hostile.add_manifest(b"{}")
    hostile.content[f"/v2/team/app/manifests/{sha(b'other')}"] = b"{}"
    async with asking(hostile) as client:
        with pytest.raises(RegistryLied, match="has the digest"):
            await client.manifest(sha(b"other"))
        hostile.script = lambda _: Reply(b"{}", headers={"docker-content-digest": sha(b"x")})
        with pytest.raises(RegistryLied, match="has the digest"):
            await client.manifest("1")
        hostile.script = lambda _: Reply(bytes(2_000_000))
        with pytest.raises(RegistryLied, match="more than 1048576 bytes"):
            await client.manifest("1")
        hostile.script = lambda _: Reply(b"{}", sent=1)
        with pytest.raises(RegistryUnavailable):
            await client.manifest("1")


async def test_a_range_that_was_not_asked_for(hostile) -> None:
    wrong = {"content-range": "bytes 0-4/5"}
    hostile.script = lambda _: Reply(b"bytes", 206, wrong)
    async with asking(hostile) as client:
        with pytest.raises(RegistryLied, match="another range"):
            async with client.blob(digest_of(b"bytes"), 3):
                pass
        hostile.script = lambda _: Reply(status=416)
        with pytest.raises(RegistryLied, match="fewer bytes"):
            async with client.blob(digest_of(b"bytes"), 3):
                pass
    assert Counter(each.headers.get("range") for each in hostile.asked) == {"bytes=3-": 2}
