"""What `docker login` stored is found, and never printed. Spec: specs/registries.md#credentials."""

import base64
import json
from pathlib import Path

import pytest

from node.registry.credentials import Credentials, find_credentials
from protocol.values.errors import InvalidRequest

AUTH = base64.b64encode(b"ada:s3cret:x").decode()


@pytest.fixture
def docker(tmp_path: Path):
    """Write config.json, and helpers as programs."""
    folder = tmp_path / "docker"
    folder.mkdir(exist_ok=True)

    def write(**document) -> None:
        (folder / "config.json").write_text(json.dumps(document))

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    def write(name: str, code: str) -> None:
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)

    return write


async def test_none() -> None:
    assert await find_credentials("docker.io") is None


async def test_in_the_file(docker) -> None:
    docker(auths={
        "https://index.docker.io/v1/": {"auth": AUTH}, "https://ghcr.io": {"auth": AUTH},
        "quay.io": {"identitytoken": "t0ken"}, "empty.io": {},
    })  # fmt: skip
    ada = Credentials("ada", "s3cret:x")
    assert await find_credentials("docker.io") == ada
    assert await find_credentials("ghcr.io") == ada
    token = await find_credentials("quay.io")
    assert token == Credentials("<token>", identity_token="t0ken")
    assert await find_credentials("empty.io") is None
    assert await find_credentials("other.io") is None
    assert "s3cret" not in repr(ada)
    assert "t0ken" not in repr(token)


async def test_from_helpers(docker, helper) -> None:
    docker(credHelpers={"ghcr.io": "one"}, credsStore="all", auths={"ghcr.io": {"auth": AUTH}})
    helper("one", """read name; echo '{"Username": "'$name'", "Secret": "s"}'; test "$1" = get""")
    helper("all", "echo 'credentials not found in native keychain'; exit 1")
    assert await find_credentials("ghcr.io") == Credentials("ghcr.io", "s")
    assert await find_credentials("docker.io") is None
    helper("all", """read name; echo '{"Username": "<token>", "Secret": "'$name'"}'""")
    assert (await find_credentials("docker.io")).identity_token == "https://index.docker.io/v1/"


async def test_what_is_wrong_is_one_line_without_secrets(docker, helper, tmp_path: Path) -> None:
    async def line() -> str:
        with pytest.raises(InvalidRequest) as caught:
            await find_credentials("ghcr.io")
        return str(caught.value)

    docker(credsStore="absent")
    assert "cannot run docker-credential-absent" in await line()
    helper("bad", "echo s3cret; exit 3")
    docker(credsStore="bad")
    assert (
        await line() == "docker-credential-bad failed with code 3: run `docker login ghcr.io` again"
    )
    helper("bad", "echo '[\"s3cret\"]'")
    assert "s3cret" not in await line()
    docker(credsStore="../bad")
    assert "no name of a credential helper" in await line()
    docker(auths={"ghcr.io": {"auth": "!!"}})
    assert "no valid auth" in await line()
    docker(auths=[1])
    assert "auths is no JSON object" in await line()
    (tmp_path / "docker" / "config.json").write_text("{")
    assert "cannot read" in await line()
