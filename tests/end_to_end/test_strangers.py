"""Garbage from outside: on the open port, and from a peer that speaks libp2p and nothing of ours.

Spec: specs/network.md.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.fixtures import named, run, until

ATTACKER = Path(__file__).parents[1] / "node/network/attacker.py"
ATTACKS = ("garbage_on_tcp", "message_garbage", "message_huge", "gossip_garbage")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_stranger_does_not_keep_nodes_from_their_work(requester, network, attack):
    targets = (requester, named(network, "bruno"))
    attackers = [
        subprocess.Popen(
            [sys.executable, str(ATTACKER), attack, target.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for target in targets
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
    for target in targets:
        assert target.status()["peer_id"] == target.peer_id
        until(lambda target=target: target.status()["peers"] == 4, "the stranger to be gone")
