"""Errors by whose fault they are.

Spec: specs/errors.md.
"""

from collections.abc import Iterator

from protocol.values import errors
from protocol.values.errors import BadSignature, MalformedMessage, NodeError, PeerFault, Stale
from protocol.values.ids import PeerId


def family(cls: type[NodeError]) -> Iterator[type[NodeError]]:
    for child in cls.__subclasses__():
        yield child
        yield from family(child)


def ours() -> list[type[NodeError]]:
    return [cls for cls in family(NodeError) if cls.__module__ == errors.__name__]


def test_every_error_that_is_raised_has_a_stable_code_of_its_own() -> None:
    coded = [cls for cls in ours() if "code" in vars(cls)]
    codes = [cls.code for cls in coded]
    assert len(set(codes)) == len(codes)
    bare = {cls.__name__ for cls in ours()} - {cls.__name__ for cls in coded}
    assert bare == {"PeerFault"}  # Only its kinds are raised.


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [line.strip("│├└─ ").split()[0] for line in (errors.__doc__ or "").splitlines()
             if "─" in line]  # fmt: skip
    assert drawn == [cls.__name__ for cls in ours()]


def test_a_fault_names_its_peer_and_costs_score() -> None:
    fault = MalformedMessage(PeerId("12D3"), "too short")
    assert (fault.peer, fault.why, str(fault)) == ("12D3", "too short", "12D3: too short")
    assert 0 < PeerFault.penalty < BadSignature.penalty


def test_being_late_is_no_fault() -> None:
    assert not issubclass(Stale, PeerFault)
