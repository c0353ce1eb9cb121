"""Candidates: who could serve a job, looked at within bounds, and explained when nobody bids.

Spec: specs/core.md#candidates.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from protocol.core import candidates as module
from protocol.core.candidates import EXPLANATION_MS, Candidates
from protocol.core.directory import Directory
from protocol.core.standings import Standings
from protocol.machines.context import Context, Policy
from protocol.rules.matching import demand_of_job, explain
from protocol.rules.pricing import Cap
from protocol.values.ids import PeerId
from protocol.values.limits import RECORD_TTL_MS
from protocol.wire.messages import CapabilityRecord, Prices
from tests.driven import START_MS
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

CONTEXT = Context(START_MS, SIGNERS[0], Policy())
OWN, BEN, CLEO = (signer.peer_id for signer in SIGNERS[:3])
SPEC = job_spec()


class Known:
    """A directory, the standings of its peers, and who of them could serve a job."""

    def __init__(self, *peers: str, **changes: Any) -> None:
        self.directory, self.standings = Directory(), Standings()
        self.candidates = Candidates(self.directory, self.standings)
        for peer in peers:
            self.add(peer, **changes)

    def add(self, peer: str, cpus: int = 4, **changes: Any) -> None:
        record = CapabilityRecord(
            1, START_MS, RECORD_TTL_MS, (), True, "", cpus, 4_096, 50_000, (), ("embedded",)
        )
        self.directory.add(PeerId(peer), replace(record, **changes), "", START_MS)

    def answers(self, *peers: str) -> None:
        for peer in peers:
            self.standings.hear_answer(PeerId(peer), START_MS, in_time=True)


def test_candidates_are_others_that_have_not_failed_us() -> None:
    known = Known(OWN, BEN, CLEO)
    known.answers(OWN, BEN, CLEO)
    assert known.candidates.count(SPEC, (BEN,), CONTEXT) == (2, 1)
    assert known.candidates.answering(SPEC, (BEN,), CONTEXT) == (CLEO,)
    assert list(known.candidates.able(SPEC, (BEN,), 0, CONTEXT)) == [CLEO]
    why = known.candidates.explanation(SPEC, (BEN,), CONTEXT).why
    assert why == "1 of 2 known nodes can serve this job: 1 failed it before"


def test_the_cap_is_the_users_or_comes_from_the_list_prices() -> None:
    known = Known("ada", "bea", prices=Prices(cpu=200))
    known.add(BEN, prices=Prices(cpu=100))
    known.add(CLEO, cpus=0, prices=Prices(cpu=1))
    named, free = job_spec(rate_max=7), job_spec(rate_max=0)
    assert [known.candidates.cap(named, (), above, CONTEXT) for above in (0, 7)] == [
        Cap(7, "the job's highest price"), None,
    ]  # fmt: skip
    rates = [known.candidates.cap(free, (), above, CONTEXT) for above in (0, 100, 200)]
    assert [cap and cap.rate for cap in rates] == [100, 200, None], "cleo cannot run it"
    known.answers(BEN)
    assert known.candidates.cap(free, (), 100, CONTEXT) is None, "a record proves nothing"
    known.standings.miss_answer(BEN, START_MS)
    silent = known.candidates.cap(free, (), 0, CONTEXT)
    assert silent is not None
    assert silent.rate == 200, "it may be gone"
    others = (PeerId("ada"), PeerId("bea"))
    alone = known.candidates.cap(free, others, 0, CONTEXT)
    assert alone is not None
    assert alone.rate == 100, "but there is no other"
    assert known.candidates.cap(free, (BEN, *others), 0, CONTEXT) is None


def test_who_does_not_fit_is_explained() -> None:
    known = Known(CLEO)
    known.add(BEN, cpus=0)
    assert known.candidates.count(SPEC, (), CONTEXT) == (2, 1)
    why = known.candidates.explanation(SPEC, (), CONTEXT).why
    assert why.startswith("1 of 2 known nodes can serve this job: 1 has too few CPUs")


def test_who_lends_is_worth_a_call_whether_it_fits_or_not() -> None:
    assert Known(BEN, cpus=0).candidates.is_anybody((), CONTEXT), "others may come and fit"
    assert not Known(BEN).candidates.is_anybody((BEN,), CONTEXT)
    assert not Known(BEN, providing=False).candidates.is_anybody((), CONTEXT)
    assert not Known(OWN).candidates.is_anybody((), CONTEXT)


def test_what_has_expired_does_not_count() -> None:
    known, later = Known(BEN), replace(CONTEXT, now_ms=START_MS + RECORD_TTL_MS)
    known.answers(BEN)
    assert known.candidates.count(SPEC, (), later) == (0, 0)
    assert known.candidates.answering(SPEC, (), later) == ()
    assert not known.candidates.is_anybody((), later)


def test_only_who_answered_before_and_can_serve_is_known_to_answer() -> None:
    known = Known(BEN, CLEO)
    known.answers(CLEO)
    assert known.candidates.answering(SPEC, (), CONTEXT) == (CLEO,)
    assert known.candidates.answering(SPEC, (CLEO,), CONTEXT) == ()
    known.answers(BEN)
    assert known.candidates.answering(SPEC, (), CONTEXT) == (CLEO,), "as a moment ago"
    later = replace(CONTEXT, now_ms=START_MS + EXPLANATION_MS)
    assert set(known.candidates.answering(SPEC, (), later)) == {BEN, CLEO}
    known.add(CLEO, cpus=0, sequence=2)
    later = replace(CONTEXT, now_ms=START_MS + 2 * EXPLANATION_MS)
    assert known.candidates.answering(SPEC, (), later) == (BEN,)


@pytest.mark.parametrize("nodes", [10, 11, 25, 1_000])
def test_of_very_many_a_part_is_looked_at(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT_MAX", 10)
    known = Known()
    for number in range(nodes):
        known.add(f"peer{number}", cpus=4 if number % 2 else 0)
    looked_at: list[CapabilityRecord] = []
    fits = module.fits

    def counted(demand: Any, peer: PeerId, record: CapabilityRecord) -> bool:
        looked_at.append(record)
        return fits(demand, peer, record)

    monkeypatch.setattr(module, "fits", counted)
    counts = known.candidates.count(SPEC, (), CONTEXT)
    assert len(looked_at) <= 10
    assert counts[0] == nodes
    assert 0 <= counts[1] <= nodes
    del looked_at[:]
    found = [list(known.candidates.able(SPEC, (), start, CONTEXT)) for start in (0, 7)]
    assert all(found)
    assert len(looked_at) <= 20
    assert (found[0] != found[1]) == (nodes > 10), "each auction looks from another place on"


def test_every_node_is_found_from_as_many_places_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOKED_AT_MAX", 10)
    known = Known(*(f"peer{number}" for number in range(15)))
    found = Counter(
        peer for start in range(15) for peer in known.candidates.able(SPEC, (), start, CONTEXT)
    )
    assert set(found.values()) == {10}


def test_those_that_answered_and_left_do_not_hide_those_that_are_here() -> None:
    known = Known(BEN)
    known.answers(*(f"gone{number}" for number in range(2 * module.LOOKED_AT_MAX)), BEN)
    assert known.candidates.answering(SPEC, (), CONTEXT) == (BEN,)


def test_an_explanation_serves_all_who_ask_the_same_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explained = 0

    def counted(*arguments: Any) -> Any:
        nonlocal explained
        explained += 1
        return explain(*arguments)

    monkeypatch.setattr(module, "explain", counted)
    known = Known(BEN)
    for ms in (0, EXPLANATION_MS - 1, EXPLANATION_MS, -1):
        known.candidates.explanation(SPEC, (), replace(CONTEXT, now_ms=START_MS + ms))
    assert explained == 3
    for number in range(2 * module.EXPLANATIONS_MAX):
        known.candidates.explanation(job_spec(rate_max=number + 1), (), CONTEXT)
    assert len(known.candidates._explained) == module.EXPLANATIONS_MAX
    assert demand_of_job(SPEC) not in known.candidates._explained
