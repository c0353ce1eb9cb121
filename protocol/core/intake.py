"""The intake of bytes from peers: size, encoding, signature, then the rules of the carrier.

Spec: specs/messages.md#intake. A rejected message changes nothing and is blamed on the peer that
delivered it. A late message is dropped without blame.
"""

from protocol.values.errors import RuleBroken, Stale
from protocol.values.ids import PeerId
from protocol.values.limits import CLOCK_SKEW_MS, RECORD_TTL_MS_MAX
from protocol.wire.envelope import Signed, open_envelope
from protocol.wire.messages import BY_NUMBER, NUMBER_OF, Call, CapabilityRecord, Carrier, Message


def admit(
    data: bytes, sender: PeerId, carrier: Carrier, network: bytes, now_ms: int
) -> Signed[Message]:
    """Return the message in the bytes.

    Raises PeerFault if the sender broke the spec, Stale if the message came too late.
    """
    signed = open_envelope(data, network, sender)
    message = signed.message
    # The wire table states how each message travels.
    allowed = BY_NUMBER[NUMBER_OF[type(message)]].carrier
    if allowed not in {carrier, Carrier.BOTH}:
        raise RuleBroken(sender, f"{type(message).__name__} is not allowed by {carrier.name}")
    # On a stream a peer sends only its own messages; gossip forwards those of others.
    if carrier is Carrier.STREAM and signed.signer != sender:
        raise RuleBroken(sender, f"{type(message).__name__} is signed by another peer")
    # The time of issue limits how long an announcement can be replayed.
    if isinstance(message, CapabilityRecord):
        _check_record(message, now_ms)
    elif isinstance(message, Call) and abs(message.issued_ms - now_ms) > CLOCK_SKEW_MS:
        raise Stale("the call's time differs too much; is this machine's clock right?")
    return signed


def admit_record(data: bytes, owner: PeerId, network: bytes, now_ms: int) -> int:
    """Return the sequence number of a peer's own capability record, as the DHT holds it.

    Raises PeerFault if the bytes are no record of that peer, Stale if it has expired.
    """
    signed = open_envelope(data, network, owner)
    if not isinstance(signed.message, CapabilityRecord) or signed.signer != owner:
        raise RuleBroken(owner, "not a capability record of this peer")
    _check_record(signed.message, now_ms)
    return signed.message.sequence


def _check_record(record: CapabilityRecord, now_ms: int) -> None:
    if record.issued_ms > now_ms + CLOCK_SKEW_MS:
        raise Stale("the record is from the future; is this machine's clock right?")
    if now_ms > record.issued_ms + max(record.ttl_ms, CLOCK_SKEW_MS):
        raise Stale("a record that has expired")
    assert record.ttl_ms <= RECORD_TTL_MS_MAX
