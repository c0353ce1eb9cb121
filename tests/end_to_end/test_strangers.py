"""Garbage from outside: on the open port, and from a peer that speaks libp2p and nothing of ours.

Spec: specs/network.md.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.stage import named, run, until

ATTACKER = Path(__file__).parents[1] / "node/network/attacker.py"
ATTACKS = ("garbage_on_tcp", "message_garbage", "message_huge", "gossip_garbage")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_stranger_does_not_keep_nodes_from_their_work(requester, network, attack):
    victims = (requester, named(network, "bruno"))
    attackers = [
        subprocess.Popen(
            [sys.executable, str(ATTACKER), attack, victim.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for victim in victims
    ]  # fmt: skip
    try:
        for attacker in attackers:
            first = attacker.stdout.readline().decode().strip()
            assert first in ("ready", "done"), first
        run(requester, "base", "--", "true")
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.communicate()
    for victim in victims:
        assert victim.status()["peer_id"] == victim.peer_id
        until(lambda victim=victim: victim.status()["peers"] == 4, "the stranger to be gone")
