"""Bounds of a container's namespaces; what they bring about is tested in test_soft_limits.py.

Spec: specs/sandbox.md#soft-memory.
"""

import os
import socket

import pytest

from node.sandbox.runner import quotas


def test_each_socket_counts_as_full():
    with socket.socket():
        held = quotas.held_bytes(os.getpid())
    assert held >= quotas.SOCKET_BYTES
    assert held % quotas.SOCKET_BYTES == 0


def test_a_process_that_is_gone_has_none():
    assert quotas.held_bytes(4194303) == 0
    with pytest.raises(FileNotFoundError):
        quotas.bound(4194303, quotas.INOTIFY)


def test_a_setting_that_cannot_be_set_is_told(monkeypatch):
    monkeypatch.setattr(quotas, "_enter", lambda init: None)
    with pytest.raises(OSError, match="namespaces take no bounds: No such file"):
        quotas.bound(os.getpid(), {"/proc/self/no-such-setting": "1"})
