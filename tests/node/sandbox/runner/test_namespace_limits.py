"""Bounds of a container's namespaces; what they bring about is tested in test_soft_limits.py.

Spec: specs/sandbox.md#soft-memory.
"""

import os
import socket

import pytest

from node.sandbox.runner import namespace_limits


def test_each_socket_counts_as_full():
    with socket.socket():
        held = namespace_limits.held_bytes(os.getpid())
    assert held >= namespace_limits.SOCKET_BYTES
    assert held % namespace_limits.SOCKET_BYTES == 0


def test_a_process_that_is_gone_has_none():
    assert namespace_limits.held_bytes(4194303) == 0
    with pytest.raises(FileNotFoundError):
        namespace_limits.bound(4194303, namespace_limits.INOTIFY)


def test_a_setting_that_cannot_be_set_is_told(monkeypatch):
    monkeypatch.setattr(namespace_limits, "enter", lambda init: None)
    with pytest.raises(OSError, match="cannot limit the container's namespaces: No such file"):
        namespace_limits.bound(os.getpid(), {"/proc/self/no-such-setting": "1"})
