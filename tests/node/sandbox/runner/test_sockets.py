"""The memory of a network namespace's sockets.

Spec: specs/execution.md#soft-memory.
"""

import os
import socket

import pytest

from node.sandbox.runner import sockets


def test_each_socket_counts_as_full():
    with socket.socket():
        held = sockets.held_bytes(os.getpid())
    assert held >= sockets.SOCKET_BYTES
    assert held % sockets.SOCKET_BYTES == 0


def test_a_process_that_is_gone_has_none():
    assert sockets.held_bytes(4194303) == 0
    with pytest.raises(FileNotFoundError):
        sockets.bound(4194303)


def test_a_namespace_that_is_not_ours_is_told(monkeypatch):
    monkeypatch.setattr(sockets, "SETTINGS", ("/proc/self/no-such-setting",))
    monkeypatch.setattr(sockets, "_enter", lambda init: None)
    with pytest.raises(OSError, match="sockets' memory cannot be bounded: No such file"):
        sockets.bound(os.getpid())
