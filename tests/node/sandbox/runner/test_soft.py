"""Memory without control groups; the kill itself is tested in test_embedded.py.

Spec: specs/execution.md#soft-memory.
"""

import os

from node.sandbox.runner import soft


def test_memory_of_a_namespace_adds_up(monkeypatch, tmp_path):
    for name in soft.FOLDERS:
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(soft, "FOLDERS", ())
    ours = soft.SoftMemory(os.getpid(), 1)
    reason, detail = ours.excess()  # This very process has more than 1 MiB.
    assert reason == "memory"
    assert "1 MiB" in detail
    assert soft.SoftMemory(os.getpid(), 1 << 20).excess() is None


def test_a_process_that_is_gone_counts_nothing():
    assert soft._proportional_bytes(4194303) == 0
    assert soft._proportional_bytes(os.getpid()) > 1 << 20
