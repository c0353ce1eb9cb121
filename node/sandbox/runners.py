"""Starts runner processes, and keeps a spare for the next container.

Python takes some 25 ms to start and to import a runner's modules. A spare does that while a job is
being prepared; then it waits for its folder, a minute at most.

Spec: specs/sandbox.md#runner.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import trio

from protocol.values.errors import SandboxUnavailable

RUNNER: Final = Path(__file__).parent / "runner"
START_SECONDS: Final = 120.0
SPARE_SECONDS: Final = 45.0
"""The oldest spare that is used; a spare ends by itself a while later."""
COMPLAINT_BYTES: Final = 65_536


class Runners:
    """The runners of one driver."""

    def __init__(self, module: str) -> None:
        """Take the name of the module of runner/ that starts the driver's containers."""
        self._module = module
        self._spare: subprocess.Popen[bytes] | None = None
        self._made = 0.0

    async def make_spare(self) -> None:
        """Start a spare runner; if that fails, the next start will say why."""
        if self._spare is not None and self._spare.poll() is None and self._is_young():
            return
        try:
            spare = await trio.to_thread.run_sync(self._spawn)
        except OSError:
            return
        self.end_spare()  # An old one, or one that another lease made meanwhile.
        self._spare, self._made = spare, time.monotonic()

    async def run(self, folder: Path) -> None:
        """Give the folder to a runner and return when its container runs.

        SandboxUnavailable with the runner's own line if it does not.
        """
        runner = self._take_spare(folder)
        if runner is None:
            try:
                runner = await trio.to_thread.run_sync(self._spawn)
            except OSError as fault:
                raise SandboxUnavailable(f"cannot start the sandbox's runner: {fault}") from fault
            _hand_over(runner, folder)
        with runner:
            complaint = await _wait(runner)
        if runner.returncode != 0:
            lines = complaint.decode(errors="replace").strip().splitlines()
            why = lines[-1] if lines else f"the runner ended with {runner.returncode}"
            raise SandboxUnavailable(why)

    def end_spare(self) -> None:
        """End the spare at once, if there is one."""
        runner, self._spare = self._spare, None
        if runner is not None:
            _close(runner)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-E", str(RUNNER), self._module]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            bufsize=0,
        )  # fmt: skip

    def _take_spare(self, folder: Path) -> subprocess.Popen[bytes] | None:
        """Give the folder to the spare and return it; None if there is no usable spare."""
        runner, self._spare = self._spare, None
        if runner is None:
            return None
        if self._is_young() and _hand_over(runner, folder):
            return runner
        _close(runner)
        return None

    def _is_young(self) -> bool:
        return time.monotonic() < self._made + SPARE_SECONDS


def _hand_over(runner: subprocess.Popen[bytes], folder: Path) -> bool:
    """Send the folder's name to the runner; return False if the runner is gone."""
    assert runner.stdin is not None
    try:
        runner.stdin.write(os.fsencode(folder))
    except BrokenPipeError:
        return False
    finally:
        runner.stdin.close()
    return True


async def _wait(runner: subprocess.Popen[bytes]) -> bytes:
    """Wait for the started process to end; return its stderr.

    It ends when the container runs: the runner proper is its child. On cancellation or time-out it
    is killed, and a runner that it may have started is found by its lock.
    """
    assert runner.stderr is not None
    ended = os.pidfd_open(runner.pid)
    try:
        with trio.fail_after(START_SECONDS):
            await trio.lowlevel.wait_readable(ended)
        runner.wait()
        # This must not block: another process may still hold the other end.
        os.set_blocking(runner.stderr.fileno(), False)
        return runner.stderr.read(COMPLAINT_BYTES) or b""
    except trio.TooSlowError:
        raise SandboxUnavailable(f"no container after {START_SECONDS:g} s") from None
    finally:
        os.close(ended)
        runner.kill()  # Of no effect when it has ended.


def _close(runner: subprocess.Popen[bytes]) -> None:
    """End a spare that has no folder, by closing its input.

    The wait blocks the event loop only briefly: the spare sleeps, so the signal ends it at once.
    """
    runner.kill()
    with runner:
        runner.wait()
