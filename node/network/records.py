"""Capability records in the DHT: stores ours, looks up others'.

Spec: specs/dht.md.
"""

from collections.abc import Callable
from typing import Final

import trio
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID
from libp2p.records.validator import Validator

from node.network.interface import RecordRule, SizeLimits
from node.network.kademlia import NAMESPACE, RepairedKademlia
from node.network.libp2p_errors import Escalation, contained
from protocol.values.errors import NodeError, PeerFault, Stale
from protocol.values.ids import PeerId, public_key_of

PUT_S: Final = 20.0
GET_S: Final = 10.0
LOOKUP_S: Final = 5.0  # For each lookup: slow peers must not use up all of GET_S.
ONE_PEER_S: Final = 4.0
COPIES: Final = 20
ANSWERS_ENOUGH: Final = 3


class Records:
    """Puts and gets records. Both are bounded, and neither raises because of the network."""

    def __init__(self, dht: RepairedKademlia, own: PeerId, validator: "RecordValidator") -> None:
        self._dht = dht
        self._own = own
        self._validator = validator

    async def put(self, data: bytes) -> bool:
        """Store our own record at the peers closest to its key.

        Returns whether at least one of them accepted it: peers refuse a record that is not newer
        than theirs. A record that violates our own rule is a bug.
        """
        key = _key_of(self._own)
        self._validator.validate(key, data)
        stored: list[ID] = []

        async def store(peer_id: ID) -> None:
            if await self._dht.value_store._store_at_peer(peer_id, key.encode(), data):  # noqa: SLF001
                stored.append(peer_id)

        with trio.move_on_after(PUT_S):
            self._dht.value_store.put(key.encode(), data)
            await _ask_all(await self._closest(key), store, lambda: False)
        return bool(stored)

    async def get(self, peer: PeerId) -> bytes | None:
        """Return the newest valid record of a peer that can be found now; None if there is none."""
        key = _key_of(peer)
        if peer == self._own:
            local = self._dht.value_store.get(key.encode())
            return None if local is None else local.value
        found: list[bytes] = []

        async def fetch(peer_id: ID) -> None:
            value = await self._dht.value_store._get_from_peer(peer_id, key.encode())  # noqa: SLF001
            if isinstance(value, bytes) and self._validator.is_valid(key, value):
                found.append(value)

        owner = ID.from_base58(peer)
        with trio.move_on_after(GET_S):
            if owner in self._dht.host.get_connected_peers():
                holders = [owner]  # No peer has a newer one, and lookups are expensive.
            else:
                holders = [owner, *(one for one in await self._closest(key) if one != owner)]
            await _ask_all(holders, fetch, lambda: len(found) >= ANSWERS_ENOUGH)
        own_copy = self._dht.value_store.get(key.encode())
        if own_copy is not None and self._validator.is_valid(key, own_copy.value):
            found.append(own_copy.value)
        return found[self._validator.select(key, found)] if found else None

    async def _closest(self, key: str) -> list[ID]:
        """Return the closest peers to a key among the connected ones, and in the network.

        Strangers choose the result of a lookup in the network; connected peers do exist.
        """
        found: list[ID] = []
        with contained("DHT lookup"), trio.move_on_after(LOOKUP_S):
            found = await self._dht.peer_routing.find_closest_peers_network(key.encode())
        if not found:
            found = self._dht.routing_table.find_local_closest_peers(key.encode(), COPIES)
        near = sort_peer_ids_by_distance(key.encode(), self._dht.host.get_connected_peers())
        both = dict.fromkeys([*near[:COPIES], *found[:COPIES]])
        return [peer_id for peer_id in both if peer_id != ID.from_base58(self._own)]


class RecordValidator(Validator):
    """Our rule for records, as libp2p's validator."""

    def __init__(self, rule: RecordRule, escalation: Escalation) -> None:
        self._rule = rule
        self._escalation = escalation

    def validate(self, key: str, value: bytes) -> None:
        """Raise ValueError if the record is not valid now."""
        self._sequence(key, value)

    def select(self, key: str, values: list[bytes]) -> int:
        """Return the index of the newest valid record, the first of equals."""
        numbers = [
            self._sequence(key, value) if self.is_valid(key, value) else -1 for value in values
        ]
        return numbers.index(max(numbers))

    def is_valid(self, key: str, value: bytes) -> bool:
        """Return whether the record is valid now."""
        try:
            self._sequence(key, value)
        except ValueError:
            return False
        return True

    def _sequence(self, key: str, value: bytes) -> int:
        prefix, _, name = key.rpartition("/")
        public_key_of(PeerId(name))  # ValueError if it is not a peer id.
        if prefix != f"/{NAMESPACE}" or len(value) > SizeLimits.RECORD_BYTES_MAX:
            raise ValueError("not a capability record")
        try:
            return self._escalation.call(self._rule.sequence, PeerId(name), value)
        except (PeerFault, Stale) as error:
            raise ValueError(str(error)) from error
        except NodeError as error:
            raise ValueError("the rule failed") from error


def _key_of(peer: PeerId) -> str:
    return f"/{NAMESPACE}/{peer}"


async def _ask_all(
    peers: list[ID], ask: Callable[[ID], "object"], enough: Callable[[], bool]
) -> None:
    """Ask all peers at once, until all have answered or enough have."""
    async with trio.open_nursery() as nursery:

        async def ask_one(peer_id: ID) -> None:
            with contained("DHT request"), trio.move_on_after(ONE_PEER_S):
                await ask(peer_id)  # type: ignore[misc]
            if enough():
                nursery.cancel_scope.cancel()

        for peer_id in peers:
            nursery.start_soon(ask_one, peer_id)
