"""Who simulated nodes are: a number stands for each, and a message travels as itself.

Nobody in a simulation can forge a message unless the scenario says so, hence nothing is encoded,
signed or verified: that is most of what a message costs a real node. A scenario may ask for real
keys instead (`crypto = true`). Spec: specs/simulation.md#identities.
"""

import hashlib
from typing import Any, Final, Protocol

from protocol.values.ids import BASE58, ED25519_MULTIHASH, ContentId, PeerId, peer_id_of
from protocol.wire.envelope import ByReference, KeySigner, M, Signed, Signer, open_envelope

NETWORK: Final = "simulation"
NETWORK_ID: Final = hashlib.sha256(NETWORK.encode()).digest()[:8]
PAIRS: Final = tuple(one + other for one in BASE58 for other in BASE58)
"""All pairs of digits of base 58, in their order."""
PLACE_OF: Final = {pair: place for place, pair in enumerate(PAIRS)}
PAIR: Final = len(PAIRS)
NUMBERS_MAX: Final = PAIR**3
"""Six digits of a peer id say which node it is."""


def _head() -> str:
    """Return what the peer ids of all numbered nodes begin with: that of a key of no one."""
    first = int.from_bytes(ED25519_MULTIHASH + hashlib.sha256(b"mutirao simulation").digest())
    first -= first % NUMBERS_MAX  # Its last digits are zeros.
    return peer_id_of(first.to_bytes(len(ED25519_MULTIHASH) + 32)[-32:])[:-6]


HEAD: Final = _head()


class Identities(Protocol):
    """The names of all nodes."""

    def peer_of(self, number: int) -> PeerId: ...

    def number_of(self, peer: PeerId) -> int: ...

    def signer(self, number: int) -> Signer: ...

    def open(self, envelope: bytes, sender: PeerId) -> Signed[Any]: ...


class Numbers:
    """Identities without keys. What a signer derives follows from the seed of the run."""

    def __init__(self, seed: int) -> None:
        self._secret = hashlib.sha256(f"{seed}/identities".encode()).digest()
        self._signed: dict[int, int] = {}
        """How many messages each node has signed: no two have the same content id."""

    def peer_of(self, number: int) -> PeerId:
        high, low = divmod(number, PAIR)
        return PeerId(HEAD + PAIRS[high // PAIR] + PAIRS[high % PAIR] + PAIRS[low])

    def number_of(self, peer: PeerId) -> int:
        high = PLACE_OF[peer[-6:-4]] * PAIR + PLACE_OF[peer[-4:-2]]
        return high * PAIR + PLACE_OF[peer[-2:]]

    def signer(self, number: int) -> Signer:
        return _NumberSigner(self.peer_of(number), number, self._secret, self._signed)

    def open(self, envelope: bytes, sender: PeerId) -> Signed[Any]:
        assert isinstance(envelope, ByReference)
        return envelope.signed


class Keys:
    """Identities with keys that follow from the seed of the run; all is signed and verified."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._signers: dict[int, KeySigner] = {}
        self._numbers: dict[PeerId, int] = {}

    def peer_of(self, number: int) -> PeerId:
        return self.signer(number).peer_id

    def number_of(self, peer: PeerId) -> int:
        return self._numbers[peer]

    def signer(self, number: int) -> KeySigner:
        signer = self._signers.get(number)
        if signer is None:
            key = hashlib.sha256(f"{self._seed}/key {number}".encode()).digest()
            signer = self._signers[number] = KeySigner(key, NETWORK)
            self._numbers[signer.peer_id] = number
        return signer

    def open(self, envelope: bytes, sender: PeerId) -> Signed[Any]:
        return open_envelope(envelope, NETWORK_ID, sender)


class _NumberSigner:
    network_id = NETWORK_ID

    def __init__(self, peer: PeerId, number: int, secret: bytes, signed: dict[int, int]) -> None:
        self.peer_id = peer
        self._number = number
        self._head = number.to_bytes(4)
        self._secret = secret + self._head
        self._signed = signed

    def sign(self, message: M) -> Signed[M]:
        count = self._signed[self._number] = self._signed.get(self._number, 0) + 1
        envelope = ByReference(self._head + count.to_bytes(5))
        envelope.signer, envelope.message = self.peer_id, message
        envelope.content_id = ContentId(hashlib.sha256(self._secret + envelope).digest())
        return Signed(self.peer_id, message, envelope, envelope.content_id)

    def secret(self, purpose: bytes, context: bytes) -> bytes:
        return hashlib.sha256(purpose + b"\0" + self._secret + context).digest()
