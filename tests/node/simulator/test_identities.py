"""Who simulated nodes are: valid peer ids for numbers, and messages that travel as themselves.

Spec: specs/simulation.md#identities.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.identities import NETWORK_ID, NUMBERS_MAX, Identities, Keys, Numbers
from protocol.values.errors import BadSignature
from protocol.values.ids import PeerId, peer_id_of, public_key_of
from protocol.wire.envelope import ByReference, reopen
from protocol.wire.messages import Ready

NUMBER = st.one_of(st.integers(0, 5_000), st.integers(0, NUMBERS_MAX - 1))
NODE = st.integers(0, 2**31 - 1)
NOBODY = PeerId("nobody")


@given(NUMBER)
def test_a_number_is_found_in_its_peer_id(number: int) -> None:
    numbers = Numbers(0)
    assert numbers.number_of(numbers.peer_of(number)) == number


@given(NUMBER)
def test_a_peer_id_of_a_number_is_one_of_an_ed25519_key(number: int) -> None:
    peer = Numbers(0).peer_of(number)
    assert peer_id_of(public_key_of(peer)) == peer


@pytest.mark.parametrize("number", [0, 1, 57, 58, 58**2 - 1, 58**2, 10**6, NUMBERS_MAX - 1])
def test_peer_ids_are_in_the_order_of_their_numbers(number: int) -> None:
    numbers = Numbers(0)
    key = int.from_bytes(public_key_of(numbers.peer_of(number)))
    assert key - int.from_bytes(public_key_of(numbers.peer_of(0))) == number


@settings(max_examples=40)
@given(st.lists(NODE, min_size=2, max_size=6), st.integers(0, 2**63))
def test_no_two_messages_have_the_same_content_id(authors: list[int], seed: int) -> None:
    numbers = Numbers(seed)
    signed = [numbers.signer(author).sign(Ready(bytes(32))) for author in authors]
    assert len({each.content_id for each in signed}) == len(authors)
    assert len({each.envelope for each in signed}) == len(authors)


def test_a_node_that_comes_back_signs_nothing_under_an_old_content_id() -> None:
    numbers = Numbers(0)
    before, after = (numbers.signer(3).sign(Ready(bytes(32))) for _ in range(2))
    assert before.content_id != after.content_id


def test_another_seed_gives_other_content_ids_and_secrets() -> None:
    one, other = (Numbers(seed).signer(3) for seed in (0, 1))
    assert one.peer_id == other.peer_id
    assert one.sign(Ready(bytes(32))).content_id != other.sign(Ready(bytes(32))).content_id
    assert one.secret(b"floor", b"") != other.secret(b"floor", b"")


@pytest.mark.parametrize("made", [Numbers, Keys])
def test_secrets_are_a_nodes_own_and_repeat(made: type[Numbers] | type[Keys]) -> None:
    asked = [(1, b"a", b""), (1, b"a", b"b"), (1, b"b", b""), (2, b"a", b"")]

    def told() -> list[bytes]:
        names = made(9)
        return [names.signer(number).secret(*what) for number, *what in asked]

    assert told() == told()
    assert len(set(told())) == len(asked)
    assert all(len(each) == 32 for each in told())


@pytest.mark.parametrize("names", [Numbers(0), Keys(0)], ids=["numbers", "keys"])
def test_what_a_node_signs_is_what_another_opens(names: Identities) -> None:
    message = Ready(bytes(32))
    signed = names.signer(5).sign(message)
    opened = names.open(signed.envelope, NOBODY)
    assert opened == signed
    assert (opened.signer, opened.message) == (names.peer_of(5), message)
    assert names.number_of(opened.signer) == 5
    assert reopen(signed.envelope) == message
    assert names.signer(5).network_id == NETWORK_ID


def test_keys_repeat_and_are_verified() -> None:
    assert Keys(1).peer_of(4) == Keys(1).peer_of(4) != Keys(2).peer_of(4)
    signed = Keys(1).signer(4).sign(Ready(bytes(32)))
    with pytest.raises(BadSignature):
        Keys(1).open(signed.envelope[:-1] + bytes([signed.envelope[-1] ^ 1]), NOBODY)


def test_a_message_without_keys_is_not_copied() -> None:
    message = Ready(bytes(32))
    signed = Numbers(0).signer(5).sign(message)
    assert isinstance(signed.envelope, ByReference)
    assert Numbers(0).open(signed.envelope, NOBODY).message is message


def test_bytes_without_a_message_are_nobodys() -> None:
    with pytest.raises(AssertionError):
        Numbers(0).open(bytes(9), NOBODY)
