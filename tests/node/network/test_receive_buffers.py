"""What peers send and nobody reads is bounded, for each and for all.

Spec: specs/network.md#limits.
"""

import pytest
from libp2p.peer.id import ID

from node.network.receive_buffers import PEER_BYTES_MAX, TOTAL_BYTES_MAX, Overrun, ReceiveBuffers

ADA = ID(b"ada")


class Connection:
    def __init__(self, peer_id):
        self.peer_id = peer_id
        self.is_abandoned = False

    def grown(self):
        return 100

    def abandon(self):
        self.is_abandoned = True


def entered(unread, *names):
    connections = [Connection(ID(name.encode())) for name in names]
    for connection in connections:
        unread.enter(connection)
    return connections


def test_one_peer_may_use_so_much_on_all_its_connections():
    unread = ReceiveBuffers(lambda peer_id: False)
    one, other = entered(unread, "ada", "ada")
    unread.add(one, PEER_BYTES_MAX // 2)
    unread.add(other, PEER_BYTES_MAX // 2)
    with pytest.raises(Overrun):
        unread.add(other, 1)
    unread.remove(one, PEER_BYTES_MAX // 2)
    unread.add(other, 1)


def test_where_all_use_too_much_the_one_that_uses_most_is_closed():
    unread = ReceiveBuffers(lambda peer_id: False)
    connections = entered(unread, *"abcdefgh")
    heaviest = connections[3]
    share = TOTAL_BYTES_MAX // len(connections)
    for connection in connections:
        unread.add(connection, share + (5_000 if connection is heaviest else -1_000))
    unread.add(connections[0], 2_500)
    assert [connection.is_abandoned for connection in connections].count(True) == 1
    assert heaviest.is_abandoned
    assert unread.total <= TOTAL_BYTES_MAX
    with pytest.raises(Overrun):  # What comes until it is closed is not kept.
        unread.add(heaviest, 1)
    unread.remove(heaviest, 1)
    assert unread.total == 7 * (share - 1_000) + 2_500


def test_who_makes_it_too_much_and_uses_most_loses_its_own():
    unread = ReceiveBuffers(lambda peer_id: False)
    *others, greedy = entered(unread, *"abcdefgh")
    for connection in others:
        unread.add(connection, TOTAL_BYTES_MAX // 8 - 100)
    unread.add(greedy, TOTAL_BYTES_MAX // 8)
    with pytest.raises(Overrun):
        unread.add(greedy, 10_000)
    assert not any(connection.is_abandoned for connection in others)


def test_strangers_are_closed_before_known_peers():
    unread = ReceiveBuffers(lambda peer_id: peer_id == ADA)
    known = Connection(ADA)
    unread.enter(known)
    unread.add(known, PEER_BYTES_MAX)
    strangers = entered(unread, *"abcdefgh")
    for stranger in strangers:
        unread.add(stranger, (TOTAL_BYTES_MAX - PEER_BYTES_MAX) // 8 - 10)
    unread.add(strangers[0], 50)
    unread.add(strangers[1], 40)
    assert not known.is_abandoned
    assert [stranger.is_abandoned for stranger in strangers] == [True] + [False] * 7


def test_who_leaves_counts_no_more():
    unread = ReceiveBuffers(lambda peer_id: False)
    one, other = entered(unread, "a", "b")
    unread.add(one, 5)
    unread.add(other, 7)
    assert unread.grown() == 200
    unread.leave(one)
    unread.leave(one)
    assert (unread.total, unread.grown()) == (7, 100)
