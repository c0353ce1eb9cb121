"""Foreign exceptions end here, and bugs of our own do not.

Spec: specs/network.md.
"""

import logging
import subprocess
import sys

import pytest
import trio
from libp2p.network.exceptions import SwarmException

from node.network.libp2p_errors import Escalation, contained, reaching
from protocol.values.errors import NodeError, PeerUnreachable, Stale
from protocol.values.ids import PeerId

ADA = PeerId("ada")


@pytest.mark.parametrize(
    "error", [SwarmException("x"), trio.TooSlowError(), OSError(), KeyError(1), EOFError()]
)
def test_foreign_errors_become_ours(error):
    with pytest.raises(PeerUnreachable, match="ada"), reaching(ADA):
        raise error


def test_others_pass():
    with pytest.raises(TypeError), reaching(ADA):
        raise TypeError


def test_contained_lets_no_exception_pass():
    with contained("x") as attempt:
        raise TypeError
    assert attempt.failed
    with contained("x") as attempt:
        assert not attempt.failed
    assert not attempt.failed


async def test_contained_lets_cancellation_pass():
    with trio.CancelScope() as scope:
        scope.cancel()
        with contained("x") as attempt:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not attempt.failed


def raising(error):
    raise error


async def test_node_errors_pass_through_an_escalation():
    async with trio.open_nursery() as nursery:
        escalation = Escalation(nursery)
        assert escalation.call(lambda one, two: one + two, 1, two=2) == 3
        with pytest.raises(Stale):
            escalation.call(raising, Stale())


async def test_a_bug_is_raised_in_the_nursery():
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            with pytest.raises(NodeError):
                Escalation(nursery).call(raising, LookupError("a bug"))
    assert caught.group_contains(LookupError, match="a bug")


def test_libp2p_does_not_write_to_the_terminal():
    code = """
import logging, libp2p
from node.network.libp2p_errors import quiet_logging
quiet_logging()
logging.warning("root"); logging.getLogger("libp2p.x").error("libp2p")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b""
    assert logging.getLogger().handlers
