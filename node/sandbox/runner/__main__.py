"""Start one runner: `python -I -S -E node/sandbox/runner MODULE`, with stdlib alone.

The process that the daemon starts imports MODULE, a driver's module in this folder, and waits for
the name of a run folder on stdin; without one it ends. Then it forks, waits until the container
runs, and exits: 0 if the container runs (or ran, or another runner has it), 1 with one line on
stderr if it cannot run. The fork is the runner: it has its own session and lives as long as the
container.

Spec: specs/sandbox.md#runner.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH100, PTH110, PTH120

import os
import sys

TYPE_CHECKING = False  # As of typing, which takes 10 ms to import.
if TYPE_CHECKING:
    from collections.abc import Callable

    from node.sandbox.runner.container import Container
    from node.sandbox.runner.records import Fields

HELD_SECONDS = 20.0
SPARE_MS = 60_000  # A runner that gets no folder in this time ends.


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
    """Fork the runner and report its start. Ends the process without Python's cleanup."""
    start = _start_of(module)
    folder = _folder_on_stdin()
    if not folder:
        os._exit(1)
    os.chdir(folder)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(reader)
        _run(writer, start)
        os._exit(0)
    os.close(writer)
    report = b""
    while piece := os.read(reader, 4096):
        report += piece
    if report == b"ok":
        os._exit(0)
    os.write(2, report or b"the sandbox's runner died; see the file `fault` in the run folder")
    os._exit(1)


def _start_of(module: str) -> "Callable[[Fields], Container]":
    """Return the module's `start`, and import all that the runner needs."""
    from node.sandbox.runner import lock, records, supervise  # noqa: F401, PLC0415

    # importlib takes a while to import.
    found = __import__(f"node.sandbox.runner.{module}", fromlist=["start"])
    start: Callable[[Fields], Container] = found.start
    return start


def _folder_on_stdin() -> bytes:
    """Return the run folder that the daemon names, b"" if it names none in time."""
    import select  # noqa: PLC0415

    poll = select.poll()
    poll.register(0, select.POLLIN)
    folder = b""
    while poll.poll(SPARE_MS) and (piece := os.read(0, 4096)):
        folder += piece
    return folder


def _run(report: int, start: "Callable[[Fields], Container]") -> None:
    """Run as the runner: hold the lock, start the container, supervise it, write the result."""
    from node.sandbox.runner import lock, records, supervise  # noqa: PLC0415
    from node.sandbox.runner.container import StartFailed  # noqa: PLC0415

    os.setsid()
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
