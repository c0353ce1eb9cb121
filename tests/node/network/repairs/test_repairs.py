"""The repairs are applied in one place, to one version.

Spec: specs/network.md.
"""

import libp2p
import pytest
from libp2p.stream_muxer.yamux import yamux

from node.network import repairs
from node.network.repairs import blocked_writes, window_updates


def test_other_versions_are_refused(monkeypatch):
    monkeypatch.setattr(libp2p, "__version__", "0.8.2")
    with pytest.raises(AssertionError, match=r"0\.8\.1 was audited"):
        repairs.apply()


def test_applying_twice_changes_nothing():
    repairs.apply()
    repairs.apply()
    assert yamux.YamuxStream.write is blocked_writes.write
    stream = yamux.YamuxStream
    assert stream._auto_tune_and_send_window_update is window_updates.open_window
