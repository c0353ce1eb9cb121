"""Penalties add up, heal with time, and end in refusal.

Spec: specs/network.md.
"""

from node.network.scores import PEERS_MAX, Scores
from protocol.values.errors import BadSignature, MalformedMessage
from protocol.values.ids import PeerId

EVE = PeerId("eve")


class Clock:
    def __init__(self):
        self.now_ms = 1_000

    def __call__(self):
        return self.now_ms


def test_small_faults_add_up():
    scores = Scores(600_000, Clock())
    assert [scores.blame(MalformedMessage(EVE, "")) for _ in range(10)] == [False] * 9 + [True]
    assert scores.refuses(EVE)
    assert not scores.refuses(PeerId("ada"))


def test_a_forged_signature_is_enough():
    assert Scores(600_000, Clock()).blame(BadSignature(EVE, ""))


def test_time_heals():
    clock = Clock()
    scores = Scores(600_000, clock)
    for _ in range(9):
        scores.blame(MalformedMessage(EVE, ""))
    assert scores.penalty(EVE) == 90
    clock.now_ms += 60_000
    assert scores.penalty(EVE) == 80
    assert not scores.blame(MalformedMessage(EVE, ""))
    clock.now_ms += 3_600_000
    assert scores.penalty(EVE) == 0


def test_refusal_ends():
    clock = Clock()
    scores = Scores(600_000, clock)
    scores.blame(BadSignature(EVE, ""))
    clock.now_ms += 599_999
    assert scores.refuses(EVE)
    clock.now_ms += 1
    assert not scores.refuses(EVE)
    assert scores.penalty(EVE) == 0


def test_memory_is_bounded():
    scores = Scores(600_000, Clock())
    for i in range(PEERS_MAX + 10):
        scores.blame(MalformedMessage(PeerId(str(i)), ""))
    assert len(scores._memories) == PEERS_MAX
