"""The daemon's side of a run folder: read its records, wait for its runner, signal it.

Nothing here is specific to a driver, and nothing here has state: all knowledge of a container is in
its folder, so that a new daemon resumes where the old one stopped.

Spec: specs/sandbox.md#run-folder.
"""

import errno
import os
import socket
import time
from pathlib import Path
from typing import Final

import trio

from node.sandbox.driver import Exit
from node.sandbox.policy import Pairs
from node.sandbox.removal import remove_tree
from node.sandbox.runner import cgroups, lock, records
from protocol.values.errors import SandboxUnavailable

HANDOVER_SECONDS: Final = 10.0
KILL_SECONDS: Final = 30.0
LOOK_AGAIN_SECONDS: Final = 60.0


def write_record(folder: Path, name: str, pairs: Pairs) -> None:
    """Replace a record in the folder."""
    records.write(str(folder / name), pairs, durable=False)


def is_alive(folder: Path) -> bool:
    """Return whether a runner holds the folder."""
    return lock.holder(str(folder / records.LOCK)) is not None


def is_known(folder: Path) -> bool:
    """Return whether the folder's container runs or ran: then it is not started again."""
    return is_alive(folder) or (folder / records.RESULT).exists()


def usage_ms(folder: Path) -> int:
    """Return for how long the folder's container has run, or ran, less pauses; 0 if never."""
    result = records.read(str(folder / records.RESULT))
    if result is not None:
        return result.number("usage_ms")
    state = records.read(str(folder / records.STATE))
    if state is None or not state.one("started_ms"):
        return 0
    # The runner's clock: monotonic since the machine's boot.
    until_ms = state.number("paused_since_ms") or time.monotonic_ns() // 10**6
    return max(0, until_ms - state.number("started_ms") - state.number("paused_ms"))


def name_in(folder: Path) -> str:
    """Return the name of the folder's container, "" if the folder is no run folder."""
    launch = records.read(str(folder / records.LAUNCH))
    return launch.one("name") if launch else ""


def driver_in(folder: Path) -> str:
    """Return the name of the driver that the folder's container was started with, "" if none."""
    launch = records.read(str(folder / records.LAUNCH))
    return launch.one("driver") if launch else ""


async def wait(folder: Path) -> Exit:
    """Return how the folder's container ended, once its runner is gone."""
    while (runner := lock.holder(str(folder / records.LOCK))) is not None:
        await _wait_for_process(runner)
    result = records.read(str(folder / records.RESULT))
    if result is None:
        return Exit(137, "failed", "the sandbox's runner died before the job ended", 0)
    peak = result.number("memory_peak_mib") if result.one("memory_peak_mib") else None
    return Exit(
        exit_code=result.number("exit_code"),
        reason=result.one("reason"),
        detail=result.one("detail"),
        usage_ms=result.number("usage_ms"),
        cpu_ms=result.number("cpu_ms") if result.one("cpu_ms") else None,
        memory_peak_mib=peak,
        refused=tuple(result.every("refused")),
    )


async def kill(folder: Path) -> None:
    """End the container and wait for its result; a runner that does not answer is killed."""
    if not _say(folder, b"k"):
        return
    with trio.move_on_after(KILL_SECONDS) as scope:
        await wait(folder)
    if not scope.cancelled_caught:
        return
    runner = lock.holder(str(folder / records.LOCK))
    if runner is not None:
        cgroups.kill_process(runner)
        await wait(folder)


async def terminate(folder: Path) -> None:
    """Send SIGTERM to the job, if it still runs."""
    _say(folder, b"t")
    await trio.lowlevel.checkpoint()


async def extend(folder: Path, budget_ms: int) -> None:
    """Set the budget and notify the runner."""
    write_record(folder, records.BUDGET, [("ms", str(budget_ms))])
    _say(folder, b"b")
    await trio.lowlevel.checkpoint()


def proxy_listener(folder: Path) -> socket.socket:
    """Return the socket that the runner listens with in its container; SandboxUnavailable."""
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as runner:
            runner.settimeout(HANDOVER_SECONDS)
            # A socket's path has at most 107 bytes; that of the folder may have more.
            runner.connect(f"/proc/self/fd/{place}/{records.EGRESS}")
            _, found, _, _ = socket.recv_fds(runner, 1, 1)
    except OSError as fault:
        raise SandboxUnavailable(f"the container has no proxy: {fault.strerror}") from fault
    finally:
        os.close(place)
    if not found:
        raise SandboxUnavailable("the container has no proxy: it has ended")
    return socket.socket(fileno=found[0])


async def remove_files(folder: Path) -> None:
    """Remove the folder with all that is in it."""
    try:
        await trio.to_thread.run_sync(remove_tree, folder)
    except FileNotFoundError:
        return
    except OSError as fault:
        raise SandboxUnavailable(f"{folder} cannot be removed: {fault.strerror}") from fault


def _say(folder: Path, word: bytes) -> bool:
    """Write to the runner's FIFO; False if no runner reads it."""
    try:
        descriptor = os.open(folder / records.CONTROL, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as fault:
        if fault.errno == errno.ENXIO:
            return False
        raise
    try:
        os.write(descriptor, word)
    except BlockingIOError:
        return True  # The FIFO is full of unread words: the runner will read one of them.
    finally:
        os.close(descriptor)
    return True


async def _wait_for_process(process: int) -> None:
    """Return when the process is gone, or after a minute, whichever comes first."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        with trio.move_on_after(LOOK_AGAIN_SECONDS):
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
