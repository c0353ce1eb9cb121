"""A whole node, with libp2p, the API and the sandbox: it starts, stops in order, and says why not.

Spec: specs/core.md#daemon.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from node.cli.connection import Connection
from node.config import Config
from node.config.sections import NetworkSettings, ProviderSettings
from node.daemon import compose
from node.daemon.compose import run_daemon
from node.driver import driver
from node.storage.journal import open_journal
from protocol.values.errors import DaemonUnavailable, StorageFull
from tests.node.fixtures import ObedientSandbox, until

STOP_S = 5


def config_of(folder: Path, **provider: Any) -> Config:
    network = NetworkSettings(name="compose", listen=("/ip4/127.0.0.1/tcp/0",))
    lends = ProviderSettings(**({"enabled": False} | provider))
    return Config(data_dir=folder, network=network, provider=lends, log_level="warning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "n"


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Connection]:
    """A node in this very process; it is told to stop, and must have stopped in time."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(compose._run, config)
        api = Connection(config.socket)
        await until(config.socket.exists, "the API")
        yield api
        await trio.to_thread.run_sync(api.post, "/stop")
        with trio.fail_after(STOP_S):
            await until(lambda: not nursery.child_tasks, "the node to stop")


async def get(api: Connection, path: str) -> Any:
    return await trio.to_thread.run_sync(api.get, path)


async def test_a_node_that_only_requests(folder: Path) -> None:
    async with running(config_of(folder)) as api:
        status = await get(api, "/status")
        assert status["provider"]["enabled"] is False
        assert "provider.enabled" in status["provider"]["why"]
        assert status["addresses"][0].startswith("/ip4/127.0.0.1/tcp/")
        peer_id = status["peer_id"]
        assert (os.stat(folder).st_mode & 0o777) == 0o700  # noqa: PTH116 - nothing waits here.
    assert not (folder / "api.sock").exists()
    async with running(config_of(folder)) as api:  # And again, as the same peer.
        assert (await get(api, "/status"))["peer_id"] == peer_id


async def test_a_provider_has_proved_its_sandbox(folder: Path) -> None:
    async with running(config_of(folder, enabled=True, sandbox="embedded")) as api:
        provider = (await get(api, "/status"))["provider"]
        if provider["driver"] is None:
            pytest.skip(f"no embedded sandbox here: {provider['why']}")
        assert provider["enabled"] is True
        assert provider["free"]["cpus"] >= 1
        assert provider["why"].startswith("provider.sandbox asks for it; hard limits: ")
    async with open_journal(folder / "node.db") as journal:
        assert await journal.fact("record-sequence")


async def test_another_sandbox_than_last_time_is_said_aloud(folder: Path, caplog: Any) -> None:
    compose.private_dir(folder)
    async with open_journal(folder / "node.db") as journal:
        await journal.set_fact(compose.SANDBOX_FACT, b"docker")
    for _ in range(2):
        async with running(config_of(folder, enabled=True, sandbox="embedded")) as api:
            provider = (await get(api, "/status"))["provider"]
            if provider["driver"] is None:
                pytest.skip(f"no embedded sandbox here: {provider['why']}")
    assert caplog.text.count("the sandbox is embedded now and was docker before") == 1


async def test_a_second_daemon_on_the_same_folder(folder: Path) -> None:
    async with running(config_of(folder)):
        with pytest.raises(DaemonUnavailable, match="another daemon"):
            await trio.to_thread.run_sync(run_daemon_elsewhere, folder)


def run_daemon_elsewhere(folder: Path) -> None:
    run_daemon(config_of(folder))


def test_a_full_disk_is_one_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageFull("no room on the disk: free some space, then try again")

    with monkeypatch.context() as patch:
        patch.setattr(driver, "commit_of", full)
        # Groups of tasks end together; what comes out is the one error that ended them.
        with pytest.raises(StorageFull, match="free some space"):
            run_daemon(config_of(folder))

    async def again() -> None:
        async with running(config_of(folder)) as api:
            assert (await get(api, "/status"))["version"]

    trio.run(again)


def test_a_bug_is_no_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(driver, "commit_of", bug)
    with pytest.raises(BaseExceptionGroup) as stopped:
        run_daemon(config_of(folder))
    assert stopped.group_contains(ZeroDivisionError)


def test_a_hangup_makes_it_read_its_configuration_again(folder: Path) -> None:
    read = []

    def again() -> Config:
        read.append(1)
        return config_of(folder)

    async def hang_up() -> None:
        await until((folder / "api.sock").exists)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: read)
        os.kill(os.getpid(), signal.SIGTERM)

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compose._run, config_of(folder), again)
            nursery.start_soon(hang_up)

    trio.run(both)
    assert read == [1]


def test_signals_stop_a_node(folder: Path) -> None:
    async def interrupt() -> None:
        await until((folder / "api.sock").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compose._run, config_of(folder))
            nursery.start_soon(interrupt)

    trio.run(both)
    assert not (folder / "api.sock").exists()


@pytest.mark.slow
def test_not_without_assertions(folder: Path) -> None:
    code = (
        "import sys; from unittest.mock import MagicMock\n"  # What takes seconds to import.
        "sys.modules |= {'node.network.host': MagicMock(), 'node.rpc.server': MagicMock()}\n"
        "from node.daemon import run_daemon; from node.config import Config\n"
        "from protocol.values.errors import InvalidRequest\n"
        "try: run_daemon(Config())\n"
        "except InvalidRequest as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(compose.__file__).parents[2], env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    assert "without python -O" in done.stdout, done.stderr


@pytest.mark.parametrize("why,names", [("", ("a.org",)), ("it cannot be entered", ())])
async def test_a_sandbox_that_cannot_connect_a_job_offers_no_egress(
    folder: Path, caplog: pytest.LogCaptureFixture, why: str, names: tuple[str, ...]
) -> None:
    class Checked(ObedientSandbox):
        async def check_egress(self) -> str:
            return why

    config = config_of(folder, egress="listed", egress_names=("a.org",))
    assert await compose._egress(config, Checked()) == names
    assert ("jobs cannot reach the network here" in caplog.text) is bool(why)
    assert await compose._egress(config_of(folder), Checked()) == ()
