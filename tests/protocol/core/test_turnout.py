"""How many nodes a call lets bid.

Spec: specs/auction-messages.md#call.
"""

import pytest

from protocol.core.jobs import class_of
from protocol.core.turnout import (
    ANSWERING_WANTED,
    DEMANDS_REMEMBERED,
    FIRST_BIDDERS_WANTED,
    Turnout,
    invitations,
)
from protocol.rules.selection import invitation_of, is_invited
from protocol.values.ids import CallId, PeerId, digest_of
from protocol.values.limits import BIDDERS_WANTED, INVITED_MAX
from protocol.wire.messages import LOTTERY_ALL, Call
from tests.protocol.core.test_auctions import CLASS, JOB
from tests.simulated_network import job_spec

KEY = CLASS.block_key
PEERS = tuple(PeerId(f"peer {number}") for number in range(400))


def called(lottery: int, *, invited: tuple[bytes, ...] = ()) -> Call:
    return Call(**{**fields_of(CLASS.call), "lottery": lottery, "invited": invited})


def fields_of(call: Call) -> dict[str, object]:
    return {name: getattr(call, name) for name in Call.__dataclass_fields__}


def heard(turnout: Turnout, number: int, lottery: int, answers: int) -> None:
    """Count a call with so many answers."""
    call_id = CallId(digest_of(bytes([number])))
    turnout.note_call(KEY, call_id, called(lottery))
    for peer in PEERS[:answers]:
        turnout.hear(KEY, call_id, peer)


@pytest.mark.parametrize("answering, recorded, first, later", [
    (0, 0, LOTTERY_ALL, LOTTERY_ALL),
    (0, 100, LOTTERY_ALL, LOTTERY_ALL),
    (0, 10 * FIRST_BIDDERS_WANTED, LOTTERY_ALL // 10, LOTTERY_ALL),
    (BIDDERS_WANTED, 0, LOTTERY_ALL, LOTTERY_ALL),
    (4 * BIDDERS_WANTED, 0, LOTTERY_ALL // 4, LOTTERY_ALL // 4),
    (2 * BIDDERS_WANTED, 4 * BIDDERS_WANTED, LOTTERY_ALL // 4, LOTTERY_ALL // 4),
    (10 * ANSWERING_WANTED, 10**9, LOTTERY_ALL // 10, LOTTERY_ALL // 10),
    (0, 10**9, 1, LOTTERY_ALL),
])  # fmt: skip
def test_so_many_providers_may_bid(answering: int, recorded: int, first: int, later: int) -> None:
    turnout = Turnout()
    assert turnout.lottery(KEY, answering, recorded, is_first=True) == first
    assert turnout.lottery(KEY, answering, recorded, is_first=False) == later


def test_answers_bound_the_bidders_of_the_next_call_however_large_the_network() -> None:
    turnout = Turnout()
    heard(turnout, 1, lottery=256, answers=250)  # Of about a million nodes.
    share = turnout.lottery(KEY, answering=250, recorded=10**6, is_first=False)
    assert share * 250 // 256 in range(BIDDERS_WANTED - 2, BIDDERS_WANTED + 1)


def test_fake_records_count_for_the_first_call_alone() -> None:
    turnout = Turnout()
    first = turnout.lottery(KEY, 0, recorded=10**6, is_first=True)
    heard(turnout, 1, lottery=first, answers=0)  # 999,900 of the records were fake.
    assert turnout.lottery(KEY, 0, recorded=10**6, is_first=False) == LOTTERY_ALL
    heard(turnout, 2, lottery=LOTTERY_ALL, answers=100)
    assert turnout.lottery(KEY, 100, recorded=10**6, is_first=False) >= 8 * LOTTERY_ALL // 100


def test_a_call_whose_answers_have_not_come_does_not_hide_the_one_before() -> None:
    turnout = Turnout()
    heard(turnout, 1, lottery=1_000, answers=100)
    heard(turnout, 2, lottery=320, answers=1)
    share = turnout.lottery(KEY, 0, recorded=0, is_first=False)
    assert share == LOTTERY_ALL * BIDDERS_WANTED // 100_000
    heard(turnout, 3, lottery=320, answers=32)  # Now the first is forgotten.
    assert turnout.lottery(KEY, 0, recorded=0, is_first=False) == share


def test_demands_count_apart_and_the_oldest_is_forgotten() -> None:
    turnout = Turnout()
    heard(turnout, 1, lottery=256, answers=250)
    other = class_of_timeout(1)
    assert turnout.lottery(other, 0, 0, is_first=False) == LOTTERY_ALL
    for number in range(DEMANDS_REMEMBERED):
        turnout.note_call(class_of_timeout(number), CallId(bytes(32)), called(LOTTERY_ALL))
    assert turnout.lottery(KEY, 0, 0, is_first=False) == LOTTERY_ALL


def class_of_timeout(number: int):
    """Return the demand of another class of jobs."""
    spec = job_spec(cpus=2 + number)
    return class_of(type(JOB)(JOB.job_id, spec, JOB.submitted_ms)).block_key


def test_some_of_those_that_answered_are_invited_if_hardly_any_is_drawn() -> None:
    call = called(lottery=32)
    invited = invitations(call, PEERS)
    assert len(invited) == INVITED_MAX
    assert list(invited) == sorted(invited)
    chosen = [peer for peer in PEERS if invitation_of(call.nonce, peer) in invited]
    assert len(chosen) == INVITED_MAX
    assert invitations(call, PEERS[:3]) == tuple(sorted(
        invitation_of(call.nonce, peer) for peer in PEERS[:3]
    ))  # fmt: skip


def test_nobody_is_invited_if_enough_are_drawn_or_all_may_bid() -> None:
    assert invitations(called(LOTTERY_ALL), PEERS[:3]) == ()
    enough = -(-LOTTERY_ALL * ANSWERING_WANTED // len(PEERS))
    assert invitations(called(enough), PEERS) == ()
    assert invitations(called(32), ()) == ()


def test_an_invited_node_does_not_count_for_the_turnout() -> None:
    turnout, call_id = Turnout(), CallId(bytes(32))
    call = called(lottery=1_000)
    call = called(
        lottery=1_000, invited=tuple(invitation_of(call.nonce, one) for one in PEERS[:32])
    )
    assert is_invited(call, PEERS[0])
    turnout.note_call(KEY, call_id, call)
    for peer in PEERS[:32]:
        turnout.hear(KEY, call_id, peer)
    assert turnout.lottery(KEY, 0, 0, is_first=False) == LOTTERY_ALL
    for peer in PEERS[32:96]:
        turnout.hear(KEY, call_id, peer)
    assert turnout.lottery(KEY, 0, 0, is_first=False) == 500
