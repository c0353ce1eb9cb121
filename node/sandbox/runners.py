"""Starts runners, through one process that forks them.

Python takes some 25 ms to start and to import a runner's modules. One process of the daemon does
that once, and forks for each container. It holds nothing that a container needs: if it dies, the
runners live on, and the next container has a new one.

Spec: specs/sandbox.md#runner.
"""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from protocol.values.errors import SandboxUnavailable

RUNNER: Final = Path(__file__).parent / "runner"
START_SECONDS: Final = 120.0
REPORT_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class _Server:
    """The process that forks runners, and the socket on which it hears of folders."""

    process: subprocess.Popen[bytes]
    control: socket.socket

    def last_words(self) -> str:
        """Return the last line that the process wrote before it died, "" if there is none."""
        assert self.process.stderr is not None
        # This must not block: a runner may still hold the other end.
        os.set_blocking(self.process.stderr.fileno(), False)
        lines = (self.process.stderr.read(REPORT_BYTES) or b"").decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line), "")

    def end(self) -> None:
        """End the process; the wait blocks the event loop only briefly: it sleeps."""
        self.control.close()
        self.process.kill()
        with self.process:
            self.process.wait()


class Runners:
    """The runners of one driver."""

    def __init__(self, module: str) -> None:
        """Take the name of the module of runner/ that starts the driver's containers."""
        self._module = module
        self._server: _Server | None = None
        self._starting = trio.Lock()

    async def make_ready(self) -> None:
        """Start the process that forks; if that fails, the next `run` will say why."""
        with suppress(SandboxUnavailable):
            await self._ready()

    async def run(self, folder: Path) -> None:
        """Give the folder to a runner and return when its container runs.

        SandboxUnavailable with the runner's own line if it does not. On cancellation or time-out a
        runner that was started is found by its lock.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                server = await self._hand_over(folder, writer)
            finally:
                os.close(writer)
            report = await _read_report(reader)
        finally:
            os.close(reader)
        if report != b"ok":
            died = "the sandbox's runner died; see the file `fault` in the run folder"
            lines = report.decode(errors="replace").strip().splitlines()
            raise SandboxUnavailable(lines[-1] if lines else server.last_words() or died)

    def end(self) -> None:
        """End the process that forks, if there is one; runners live on."""
        server, self._server = self._server, None
        if server is not None:
            server.end()

    async def _hand_over(self, folder: Path, report: int) -> _Server:
        """Send the folder's name; a process that has died meanwhile is replaced."""
        server = await self._ready()
        await trio.lowlevel.wait_writable(server.control)
        try:
            socket.send_fds(server.control, [os.fsencode(folder)], [report])
        except OSError as fault:
            if self._server is server:
                self.end()
            raise SandboxUnavailable(f"the sandbox's runner died: {fault}") from fault
        return server

    async def _ready(self) -> _Server:
        async with self._starting:
            if self._server is not None and self._server.process.poll() is not None:
                self.end()
            if self._server is None:
                try:
                    self._server = await trio.to_thread.run_sync(self._spawn)
                except OSError as fault:
                    line = f"cannot start the sandbox's runner: {fault}"
                    raise SandboxUnavailable(line) from fault
            return self._server

    def _spawn(self) -> _Server:
        command = [sys.executable, "-I", "-S", "-E", str(RUNNER), self._module]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE, bufsize=0,
                    start_new_session=True,  # A terminal's signals are for the daemon.
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        return _Server(process, ours)


async def _read_report(pipe: int) -> bytes:
    """Return what a runner reports, at once when its container runs."""
    report = b""
    with trio.move_on_after(START_SECONDS) as scope:
        while report != b"ok" and (piece := await _read_piece(pipe)):
            report += piece
    if scope.cancelled_caught:
        raise SandboxUnavailable(f"no container after {START_SECONDS:g} s")
    return report


async def _read_piece(pipe: int) -> bytes:
    await trio.lowlevel.wait_readable(pipe)
    return os.read(pipe, REPORT_BYTES)
