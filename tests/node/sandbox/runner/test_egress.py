"""The hand-over of a listening socket. Real containers: tests/node/sandbox/test_egress.py.

Spec: specs/egress.md#in-the-sandbox.
"""

import os
import socket
from pathlib import Path
from threading import Thread

import pytest

from node.sandbox import runfolder
from node.sandbox.runner import egress, namespace_limits, records
from node.sandbox.runner.bubblewrap import Bubblewrap
from node.sandbox.runner.container import StartFailed
from node.sandbox.runner.records import Fields
from protocol.values.errors import SandboxUnavailable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with a long path, as the runner's working folder."""
    deep = tmp_path / ("x" * 100) / "y"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    monkeypatch.setattr(namespace_limits, "enter", lambda init: None)
    monkeypatch.setattr(egress, "ADDRESS", ("127.0.0.1", 0))
    return deep


def test_whoever_asks_gets_the_same_socket(folder: Path) -> None:
    (folder / records.EGRESS).touch()  # Left by a runner that died.
    handover = egress.Handover(os.getpid())
    found = []
    for _ in range(2):
        asking = Thread(target=lambda: found.append(runfolder.proxy_listener(folder)))
        asking.start()
        handover.asked.setblocking(True)
        handover.hand_over()
        asking.join()
    first, second = found
    assert first.getsockname() == second.getsockname()
    first.close()
    with socket.create_connection(second.getsockname()) as client, second.accept()[0] as accepted:
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
    second.close()
    handover.close()
    with pytest.raises(SandboxUnavailable, match="the container has no proxy: Connection refused"):
        runfolder.proxy_listener(folder)


def test_nobody_asks(folder: Path) -> None:
    handover = egress.Handover(os.getpid())
    handover.hand_over()
    handover.close()


def test_a_namespace_that_cannot_be_entered_fails_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_init: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(namespace_limits, "enter", refuse)
    container = Bubblewrap.__new__(Bubblewrap)
    egress.offer(container, 1, Fields([]))
    assert container.egress is None
    with pytest.raises(StartFailed, match=r"no proxy can listen .*: Operation not permitted"):
        egress.offer(container, 1, Fields([("egress", "1")]))
