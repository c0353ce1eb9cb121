"""Records: only valid ones, the newest of them, and never for long.

Spec: specs/dht.md.
"""

import pytest
import trio
from libp2p.peer.id import ID

from node.network.libp2p_errors import Escalation
from node.network.records import RecordValidator, _ask_all
from protocol.values.ids import peer_id_of
from tests.node.network.fixtures import TextRule, connected_nodes, open_node, until

ADA = peer_id_of(bytes(range(32)))
KEY = f"/mutirao/{ADA}"


def record(number, peer=ADA):
    return f"{peer} {number}".encode()


@pytest.fixture
async def validator():
    async with trio.open_nursery() as nursery:
        yield RecordValidator(TextRule(), Escalation(nursery))


async def test_the_newest_valid_record_wins(validator):
    assert validator.select(KEY, [record(2), b"bad", record(10), record(9)]) == 2
    assert validator.select(KEY, [b"bad", record(0)]) == 1


@pytest.mark.parametrize(
    "key, value",
    [
        (KEY, b""),
        (KEY, b"bad"),
        (KEY, record(1) + bytes(5000)),
        (f"/pk/{ADA}", record(1)),
        ("/mutirao/nobody", record(1)),
        (f"/mutirao/x/{ADA}", record(1)),
    ],
)
async def test_bad_records_are_refused(validator, key, value):
    with pytest.raises(ValueError):
        validator.validate(key, value)
    assert not validator.is_valid(key, value)


async def test_nobody_can_put_a_record_for_another(patient_dht):
    async with connected_nodes(2) as (a, b):
        forged = record(9, b.peer_id).replace(b" 9", b" nine")
        with pytest.raises(ValueError):
            await a.put_record(forged)
        assert await b.get_record(a.peer_id) is None


async def test_alone_a_record_goes_nowhere_and_is_not_lost(patient_dht):
    async with open_node("a") as a:
        mine = record(1, a.peer_id)
        assert not await a.put_record(mine)
        assert await a.get_record(a.peer_id) == mine
        async with open_node("b", a.addresses()[0]) as b:
            await until(b.peers)
            assert await b.get_record(a.peer_id) == mine  # Asked of its owner.


async def test_a_connected_owner_is_asked_and_nobody_else(patient_dht, monkeypatch):
    async with connected_nodes(2) as (a, b):

        async def look_up(key):
            raise AssertionError("the owner is asked")

        monkeypatch.setattr(b._records, "_closest", look_up)
        assert await b.get_record(a.peer_id) is None
        await a.put_record(record(1, a.peer_id))
        b._stack.dht.value_store.remove(f"/mutirao/{a.peer_id}".encode())
        assert await b.get_record(a.peer_id) == record(1, a.peer_id)


async def test_a_crowd_that_does_not_exist_keeps_no_record_from_those_that_do(
    patient_dht, monkeypatch
):
    async with connected_nodes(2) as (a, b):
        many_ids = [ID(b"\x12\x20" + number.to_bytes(32)) for number in range(100)]

        async def find_crowd(key):
            return many_ids

        for node in (a, b):
            monkeypatch.setattr(
                node._stack.dht.peer_routing, "find_closest_peers_network", find_crowd
            )
        mine = record(1, a.peer_id)
        assert await a.put_record(mine)
        a._stack.dht.value_store.remove(f"/mutirao/{a.peer_id}".encode())
        assert await b.get_record(a.peer_id) == mine


async def test_an_old_record_is_refused(patient_dht):
    async with connected_nodes(2) as (a, _b):
        assert await a.put_record(record(2, a.peer_id))
        a._stack.dht.value_store.remove(f"/mutirao/{a.peer_id}".encode())
        assert not await a.put_record(record(1, a.peer_id))


async def test_hung_peers_do_not_hold_an_answer_up(autojump_clock):
    answers = []

    async def ask(peer):
        if peer > 3:
            await trio.sleep_forever()
        answers.append(peer)

    started_s = trio.current_time()
    await _ask_all([5, 6, 1, 2, 3], ask, lambda: len(answers) >= 3)
    assert trio.current_time() == started_s
    await _ask_all([5, 6], ask, lambda: False)
    assert trio.current_time() - started_s < 5
