"""The battery: while a node is attacked, its neighbour's jobs go on as before.

A job is here what jobs need of the network: a request and its answer, and a call that is heard and
answered by gossip. A burst that fills a peer's queue can lose a call, so it is published again, as
requesters do. To add an attack: a function in an attacker's script, and a row in ATTACKS.

Spec: specs/network.md.
"""

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import trio

from protocol.rules.verdict import Verdict
from protocol.values.ids import PeerId
from tests.node.network.fixtures import (
    WAIT_S,
    attacker,
    open_node,
    read_line,
    repeated,
    until,
    until_answered,
)

pytestmark = pytest.mark.slow

JOBS = 3
AGAIN_S = 1
TIMES_AS_LONG = 3
LONG_S = 10  # A job of the network may take so long at any time, on a machine with other work.


@dataclass(frozen=True)
class Attack:
    """What an attacker does, in a process of its own."""

    name: str  # A function of the script.
    script: str = "gossip_attacker.py"
    leaves_mib: int = 20


ATTACKS = (
    Attack("many_messages"),
    Attack("many_subscriptions"),
    Attack("many_topics"),
    Attack("many_wishes"),
    Attack("many_returns"),
    Attack("many_names"),
    Attack("many_small_rpcs"),
    Attack("many_streams"),
    # What 256 connections took of the heap stays with it: 30 MiB, after three crowds as after one.
    Attack("many_addresses", "many_peers_attacker.py", leaves_mib=40),
    Attack("many_handshakes", "many_peers_attacker.py"),
    Attack("no_windows", "many_peers_attacker.py"),
    Attack("beyond_windows", "many_peers_attacker.py"),
)


class Neighbour:
    """An honest node, and how long its jobs with the target take."""

    def __init__(self, node, target):
        self.node, self.target = node, target
        self.heard = set()
        self.numbers = count()
        node.subscribe("heard", lambda peer, data: self.heard.add(data) or Verdict.ACCEPT)

    async def ready(self):
        """Wait until calls and answers come through."""
        await until_answered(self.node, self.target)
        await repeated(lambda: self.node.publish("calls", b"ready"), lambda: b"ready" in self.heard)

    async def job(self):
        """Do one job; return the seconds that it took. It fails by an exception."""
        number = b"%d" % next(self.numbers)
        started_s = trio.current_time()
        assert await self.node.request(self.target, number) == number
        with trio.fail_after(WAIT_S):
            while number not in self.heard:
                await self.node.publish("calls", number)
                with trio.move_on_after(AGAIN_S):
                    await until(lambda: number in self.heard)
        return trio.current_time() - started_s

    async def jobs(self):
        return [await self.job() for _ in range(JOBS)]


async def join(address):
    """Come as a newcomer and be answered; return the seconds that it took."""
    started_s = trio.current_time()
    async with open_node("newcomer", address) as newcomer:
        await until_answered(newcomer, PeerId(address.rpartition("/p2p/")[2]))
    return trio.current_time() - started_s


def resident_mib(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 2**20


@asynccontextmanager
async def attacked():
    """The target's process, its address, and an honest neighbour."""
    async with attacker("target", script="target_node.py") as target:
        address = await read_line(target)
        async with open_node("neighbour", address) as node:
            neighbour = Neighbour(node, PeerId(address.rpartition("/p2p/")[2]))
            await neighbour.ready()
            yield target, address, neighbour


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_the_neighbour_does_not_notice(attack):
    async with attacked() as (target, address, neighbour):
        before_s = [*await neighbour.jobs(), await join(address)]
        before_mib = resident_mib(target)
        during_s = []
        async with attacker(attack.name, address, script=attack.script) as process:
            assert await read_line(process) == "ready"
            async with trio.open_nursery() as nursery:

                async def work():
                    during_s.append(await join(address))
                    while True:
                        during_s.append(await neighbour.job())

                nursery.start_soon(work)
                assert (await read_line(process)).startswith(("done", "over"))
                await until(lambda: len(during_s) > JOBS)
                nursery.cancel_scope.cancel()
            during_s.append(await join(address))  # What the attacker holds it still holds.
        after_s = [*await neighbour.jobs(), await join(address)]
        longest_s = max(LONG_S, TIMES_AS_LONG * max(before_s))
        assert max(during_s + after_s) < longest_s
        await until(lambda: resident_mib(target) - before_mib < attack.leaves_mib)
