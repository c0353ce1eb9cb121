"""The memory of peers' conduct is bounded, and strangers do not push out who settled with us.

Spec: specs/standing.md.
"""

import pytest

from protocol.core import standings
from protocol.core.standings import Standings
from protocol.rules.standing import BROKEN, STRANGER, Standing
from protocol.values.ids import PeerId
from protocol.values.limits import BARRED_MS

ANN, BEN, EVE = map(PeerId, ("ann", "ben", "eve"))


def test_what_was_seen_is_remembered() -> None:
    known = Standings()
    assert known.of(ANN) == STRANGER
    known.settle(ANN)
    known.strike(ANN, BROKEN, 7)
    known.strike(EVE, BROKEN, 7)
    known.settle(EVE)
    assert known.of(ANN) == known.of(EVE) == Standing(
        settled=True, strikes=BROKEN, struck_ms=7, answers=True
    )  # fmt: skip


def test_strangers_push_out_strangers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standings, "STANDINGS_MAX", 2)
    known = Standings()
    known.settle(ANN)
    for number in range(9):
        known.strike(PeerId(f"eve{number}"), BROKEN, number)
    assert known.of(ANN).settled
    assert [number for number in range(9) if known.of(PeerId(f"eve{number}")).strikes] == [7, 8]


def test_who_settled_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standings, "STANDINGS_MAX", 2)
    known = Standings()
    for peer in (ANN, BEN, ANN, EVE):
        known.settle(peer)
    assert [known.of(peer).settled for peer in (ANN, BEN, EVE)] == [True, False, True]


def test_conduct_is_remembered() -> None:
    known = Standings()
    known.note_abort(ANN, 7)
    known.bar(EVE, 9)
    assert known.of(ANN).aborts == (7,)
    assert known.of(EVE).barred_until_ms == 9 + BARRED_MS
