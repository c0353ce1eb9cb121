"""The CLI as a real process, against the real API of a service in memory. Spec: specs/rpc.md."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from node.rpc.server import serve_api
from tests.node.rpc.recorded import RecordedService

ROOT = Path(__file__).parents[3]
DEAD_S = 120
"""Longer than any machine needs: what takes so long has died."""


@dataclass
class Daemon:
    """A served RecordedService in a thread of its own."""

    service: RecordedService
    socket: Path
    token: trio.lowlevel.TrioToken
    scope: trio.CancelScope

    def do(self, function, *args):
        """Call a function in the daemon's thread, where the service lives."""
        return trio.from_thread.run_sync(function, *args, trio_token=self.token)

    def stop(self) -> None:
        self.do(self.scope.cancel)


@dataclass
class Ended:
    """A process of the CLI that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def start_daemon(folder: Path):
    """Return a Daemon and the thread that it runs in."""
    ready, made = threading.Event(), []

    async def serve():
        service = RecordedService(folder)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_api, service.as_service(), folder / "api.sock")
                token = trio.lowlevel.current_trio_token()
                made.append(Daemon(service, folder / "api.sock", token, scope))
                ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(DEAD_S)
    return made[0], thread


@pytest.fixture(scope="session")
def lasting_daemon():
    with tempfile.TemporaryDirectory() as folder:
        daemon, thread = start_daemon(Path(folder))
        yield daemon
        daemon.stop()
        thread.join(DEAD_S)


@pytest.fixture
def daemon(lasting_daemon):
    """A daemon without jobs."""
    lasting_daemon.do(lasting_daemon.service.reset)
    return lasting_daemon


@pytest.fixture
def mortal_daemon(tmp_path):
    """A daemon that the test may stop."""
    daemon, thread = start_daemon(tmp_path)
    yield daemon
    with suppress(trio.RunFinishedError):  # The test has stopped it.
        daemon.stop()
    thread.join(DEAD_S)


def environment(socket: Path | None = None, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUTIRAO")}
    return kept | ({"MUTIRAO_SOCKET": str(socket)} if socket else {}) | more


def start_cli(*arguments: str, socket: Path | None = None, cwd=None, **options) -> subprocess.Popen:
    """Start the program; its pipes are read by the test."""
    return subprocess.Popen(
        [sys.executable, "-m", "node", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        env=environment(socket, PYTHONPATH=str(ROOT), **options),
        cwd=cwd,
    )


def run_cli(*arguments: str, socket: Path | None = None, cwd=None, **env: str) -> Ended:
    """Run the program to its end."""
    process = start_cli(*arguments, socket=socket, cwd=cwd, **env)
    out, err = process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def cli(daemon, tmp_path):
    """The program, speaking to the daemon, in a folder of its own."""

    def run(*arguments: str, **options) -> Ended:
        return run_cli(
            *arguments, socket=daemon.socket, cwd=options.pop("cwd", tmp_path), **options
        )

    return run
