"""What several tests of the network need.

Spec: specs/network.md.
"""

import pytest

from node.network import kademlia, records


@pytest.fixture
def patient_dht(monkeypatch):
    """A DHT whose time-outs do not end what a slow machine is still at."""
    for name in ("PUT_S", "GET_S", "LOOKUP_S", "ONE_PEER_S"):
        monkeypatch.setattr(records, name, 60)
    monkeypatch.setattr(kademlia, "STREAM_S", 3600)
