"""Golden vectors: the bytes of every message are for ever.

Spec: specs/messages.md#wire. The file is read here as another implementation would read it.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.rules.commitment import commitment_of
from protocol.values.ids import lease_id_of, public_key_of
from protocol.wire.codec import decode, encode
from protocol.wire.envelope import KeySigner, network_id, open_envelope
from protocol.wire.messages import BY_NUMBER, WIRE, Bid
from protocol.wire.schema import Bytes, Many, Record, slots_of

ROOT = Path(__file__).parent.parent.parent
FILE = json.loads((ROOT / "tests" / "vectors" / "messages.json").read_text())
MESSAGES = FILE["messages"]
NETWORK_ID = bytes.fromhex(FILE["network_id"][2:])
each = pytest.mark.parametrize(
    "vector", MESSAGES, ids=[f"{number}-{one['name']}" for number, one in enumerate(MESSAGES)]
)


def read(kind: Any, plain: Any) -> Any:
    """Return the value of one kind of field from JSON."""
    match kind:
        case Bytes():
            return bytes.fromhex(plain.removeprefix("0x"))
        case Many(item):
            return tuple(read(item, each) for each in plain)
        case Record(cls):
            return record(cls, plain)
    return plain


def record(cls: Any, plain: dict[str, Any]) -> Any:
    return cls(**{slot.name: read(slot.kind, plain[slot.name]) for slot in slots_of(cls)})


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@each
def test_fields_give_the_body(vector: dict[str, Any]) -> None:
    route = BY_NUMBER[vector["number"]]
    assert route.message.__name__ == vector["name"]
    message = record(route.message, vector["fields"])
    assert encode(message) == raw(vector["body"])
    assert decode(route.message, raw(vector["body"])) == message


@each
def test_the_signer_gives_the_envelope(vector: dict[str, Any]) -> None:
    signer = FILE["signers"][vector["signer"]]
    message = record(BY_NUMBER[vector["number"]].message, vector["fields"])
    signed = KeySigner(raw(signer["seed"]), FILE["network"]).sign(message)
    assert signed.envelope == raw(vector["envelope"])
    assert signed.content_id == raw(vector["content_id"])
    assert signed.signer == signer["peer_id"]
    assert public_key_of(signer["peer_id"]) == raw(signer["public_key"])


@each
def test_the_envelope_gives_the_message(vector: dict[str, Any]) -> None:
    peer_id = FILE["signers"][vector["signer"]]["peer_id"]
    opened = open_envelope(raw(vector["envelope"]), NETWORK_ID, peer_id)
    assert opened.message == record(BY_NUMBER[vector["number"]].message, vector["fields"])
    assert opened.signer == peer_id


@each
def test_the_content_id_needs_nothing_but_a_hash(vector: dict[str, Any]) -> None:
    key = raw(FILE["signers"][vector["signer"]]["public_key"])
    number = vector["number"].to_bytes(2)
    content = b"mutirao/id/1\0" + NETWORK_ID + number + key + raw(vector["body"])
    assert hashlib.sha256(content).digest() == raw(vector["content_id"])


def test_every_message_has_a_vector() -> None:
    assert {one["number"] for one in MESSAGES} == {route.number for route in WIRE}


def test_names_are_derived() -> None:
    commitment, lease_id = FILE["names"]
    assert network_id(FILE["network"]) == NETWORK_ID
    known = (raw(commitment["call_id"]), commitment["peer_id"])
    bid = record(Bid, commitment["bid"])
    assert commitment_of(*known, bid, raw(commitment["nonce"])) == raw(commitment["value"])
    place = (lease_id["slot"], lease_id["attempt"], lease_id["offer"])
    named = lease_id_of(raw(lease_id["call_id"]), *place, lease_id["peer_id"])
    assert named == raw(lease_id["value"])


def test_the_file_is_what_the_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "vectors"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
