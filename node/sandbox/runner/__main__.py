"""Start runners: `python -I -S -E node/sandbox/runner MODULE`, with stdlib alone.

The daemon starts this process once. It imports MODULE, a driver's module in this folder, and forks
for each run folder that the daemon names on the socket that is its stdin; it ends when the socket
does. The fork is the runner: it has its own session and lives as long as its container. To the pipe
that comes with the folder it writes "ok" as soon as the container runs (or ran, or another runner
has it), or one line on why it cannot.

Spec: specs/sandbox.md#runner.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH100, PTH110, PTH120

import os
import signal
import socket
import sys

TYPE_CHECKING = False  # As of typing, which takes 10 ms to import.
if TYPE_CHECKING:
    from collections.abc import Callable

    from node.sandbox.runner.container import Container
    from node.sandbox.runner.records import Fields

HELD_SECONDS = 20.0
PATH_BYTES_MAX = 4096


def stand_alone() -> None:
    """Make `node.sandbox.runner` importable without running `node/__init__.py` and its imports.

    The packages become plain folders: typing alone, which they import, costs 10 ms.
    """
    runner = os.path.dirname(os.path.abspath(__file__))
    path = runner
    for name in ("node.sandbox.runner", "node.sandbox", "node"):
        package = type(sys)(name)
        package.__path__ = [path]
        sys.modules[name] = package
        path = os.path.dirname(path)


def main(module: str) -> None:
    """Fork a runner for each folder. Ends the process without Python's cleanup."""
    from node.sandbox.runner import mounts  # noqa: PLC0415

    start = _start_of(module)
    signal.signal(signal.SIGCHLD, _reap)
    mounts.adopt_orphans()
    control = socket.socket(fileno=0)
    while True:
        folder, reports, _, _ = socket.recv_fds(control, PATH_BYTES_MAX, 1)
        if not folder:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.set_inheritable(reports[0], False)
            _run(folder, reports[0], start)
            os._exit(0)
        os.close(reports[0])


def _reap(_signal: int, _frame: object) -> None:
    """Leave no zombie, and count the processor time of the dead runners for this process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def _start_of(module: str) -> "Callable[[Fields], Container]":
    """Return the module's `start`, and import all that the runner needs."""
    from node.sandbox.runner import lock, records, supervise  # noqa: F401, PLC0415

    # importlib takes a while to import.
    found = __import__(f"node.sandbox.runner.{module}", fromlist=["start"])
    start: Callable[[Fields], Container] = found.start
    return start


def _run(folder: bytes, report: int, start: "Callable[[Fields], Container]") -> None:
    """Run as the runner: hold the lock, start the container, supervise it, write the result."""
    from node.sandbox.runner import lock, records, supervise  # noqa: PLC0415
    from node.sandbox.runner.container import StartFailed  # noqa: PLC0415

    os.setsid()
    try:
        os.chdir(folder)
    except OSError as fault:
        os.write(report, f"there is no run folder: {fault}".encode())
        return
    _leave_the_daemons_streams(records.FAULT)
    if not lock.take(records.LOCK):
        lock.await_state(HELD_SECONDS)
        os.write(report, b"ok")
        return
    if records.read(records.RESULT):
        os.write(report, b"ok")
        return
    if records.read(records.STATE):  # The container ran, and its runner died: never run it twice.
        os.write(report, b"the container was lost with the runner that watched it")
        return
    fields = records.read(records.LAUNCH)
    assert fields is not None, "the daemon writes the launch record first"
    try:
        container = start(fields)
    except StartFailed as fault:
        os.write(report, str(fault).encode())
        return
    watch = supervise.Watch(container, fields, _open_control(records.CONTROL))
    watch.note_state()
    os.write(report, b"ok")
    os.close(report)
    supervise.supervise(watch)


def _open_control(path: str) -> int:
    """Open the FIFO for the daemon's commands; for reading and writing, so that it never ends."""
    if not os.path.exists(path):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _leave_the_daemons_streams(fault: str) -> None:
    """Replace stdin, stdout and stderr, whose end the daemon waits for."""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    file = os.open(fault, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)


if __name__ == "__main__":
    stand_alone()
    main(sys.argv[1])
