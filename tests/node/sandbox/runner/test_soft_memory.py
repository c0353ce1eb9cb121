"""Memory without control groups; the kill itself is tested in test_embedded.py.

Spec: specs/sandbox.md#soft-memory.
"""

import os
from types import SimpleNamespace

from node.sandbox.runner import soft_memory


def test_memory_of_a_namespace_adds_up():
    ours = soft_memory.SoftMemory(os.getpid(), 1, ())
    reason, detail = ours.excess()  # This very process has more than 1 MiB.
    assert reason == "memory"
    assert "1 MiB" in detail
    assert soft_memory.SoftMemory(os.getpid(), 1 << 20, ()).excess() is None


def test_empty_files_and_sockets_count(monkeypatch, tmp_path):
    monkeypatch.setattr(soft_memory, "_proportional_bytes", lambda process: 0)
    folders = (str(tmp_path.relative_to("/")),)
    room = SimpleNamespace(f_blocks=9, f_bfree=9, f_frsize=4096, f_files=9000, f_ffree=6000)
    monkeypatch.setattr(soft_memory.os, "statvfs", lambda folder: room)
    monkeypatch.setattr(soft_memory.namespace_limits, "held_bytes", lambda init: 2 << 20)
    assert (
        soft_memory.SoftMemory(os.getpid(), 4, folders).excess()[0] == "memory"
    )  # 3000 KiB and 2 MiB.
    assert soft_memory.SoftMemory(os.getpid(), 5, folders).excess() is None


def test_a_process_that_is_gone_counts_nothing():
    assert soft_memory._proportional_bytes(4194303) == 0
    assert soft_memory._proportional_bytes(os.getpid()) > 1 << 20
