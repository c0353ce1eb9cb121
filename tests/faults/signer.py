"""Signers for simulations: quick, and with a record of what they signed.

Spec: specs/faults.md#model.
"""

import hashlib
from typing import Any, Final

from protocol.wire.envelope import KeySigner, M, Signed
from protocol.wire.messages import BidReveal, Outcome, Receipt

CARRIED: Final = BidReveal | Outcome | Receipt
"""Messages that travel inside others."""


class RecordingSigner(KeySigner):
    """A signer that records what it has signed, so that no receiver verifies it again.

    The core itself verifies only what other messages carry: that has real signatures.
    """

    def __init__(self, seed: bytes, network: str, opened: dict[bytes, Signed[Any]]) -> None:
        super().__init__(seed, network)
        self._opened = opened
        self._real, self._quick = self._private, _QuickKey(seed)

    def sign(self, message: M) -> Signed[M]:
        self._private: Any = self._real if isinstance(message, CARRIED) else self._quick
        signed = super().sign(message)
        self._opened[signed.envelope] = signed
        return signed


class _QuickKey:
    """Makes bytes in place of a signature, a tenth as slowly."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def sign(self, data: bytes) -> bytes:
        return hashlib.sha512(self._seed + data).digest()
