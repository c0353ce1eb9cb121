"""A provider whose bids reach nobody is told so, and not again and again.

Spec: specs/operation.md#reachability.
"""

import logging

import pytest

from node.driver.clock import Clock
from node.messaging import undelivered as module
from node.messaging.undelivered import Undelivered
from protocol.values.ids import CallId, PeerId
from protocol.wire.envelope import KeySigner
from protocol.wire.messages import BidCommit, BidRefusal
from tests.node.fixtures import ADA, BEA


def commit_to(number: int) -> bytes:
    return BEA.sign(BidCommit(CallId(bytes([number]) * 32), bytes(32))).envelope


@pytest.fixture
def undelivered(clock: Clock) -> Undelivered:
    return Undelivered(BEA, clock)


def test_each_bid_counts_once(undelivered: Undelivered) -> None:
    for number in (1, 1, 2):
        undelivered.missed(ADA.peer_id, commit_to(number))
    undelivered.missed(PeerId("other"), commit_to(2))
    assert undelivered.bids == 3


def test_only_bids_count(undelivered: Undelivered) -> None:
    refusal = BEA.sign(BidRefusal(CallId(bytes(32)), 1))
    undelivered.missed(ADA.peer_id, refusal.envelope)
    undelivered.missed(ADA.peer_id, b"of an earlier version")
    assert undelivered.bids == 0


def test_what_was_said_in_another_network_does_no_harm(undelivered: Undelivered) -> None:
    elsewhere = KeySigner(bytes(32), "another")
    other = elsewhere.sign(BidCommit(CallId(bytes(32)), bytes(32)))
    undelivered.missed(ADA.peer_id, other.envelope)
    assert undelivered.bids == 0


def test_the_owner_is_warned_now_and_then(
    undelivered: Undelivered, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for number in range(50):
        undelivered.missed(ADA.peer_id, commit_to(number))
    (line,) = caplog.messages
    assert ADA.peer_id in line
    assert "network.announce" in line
    monkeypatch.setattr(module, "WARN_EVERY_MS", 0)
    undelivered.missed(ADA.peer_id, commit_to(50))
    assert "51 bids" in caplog.messages[-1]


def test_only_so_many_requesters_are_remembered(
    undelivered: Undelivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUESTERS_MAX", 2)
    for name in "abc":
        undelivered.missed(PeerId(name), commit_to(1))
    assert len(undelivered._last) == 2
