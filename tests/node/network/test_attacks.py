"""Attacks from another process: each costs the attacker, and the node still answers others.

Spec: specs/network.md.
"""

import itertools
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from protocol.rules.verdict import Verdict
from tests.node.network.fixtures import (
    WAIT_S,
    attacker,
    echo,
    open_node,
    read_line,
    repeated,
    tuned,
    until,
    until_answered,
)

pytestmark = pytest.mark.slow


async def sleep(peer, stream):
    await trio.sleep_forever()


def resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 2**20


@asynccontextmanager
async def attacked(**changes):
    async with open_node("target", tuning=tuned(**changes)) as node:
        node.on_request(echo)
        node.on_stream("/mutirao/sleep/1", sleep)
        node.subscribe("calls", lambda peer, data: Verdict.ACCEPT)
        yield node


@pytest.fixture
async def target():
    async with attacked(handler_timeout_ms=2_000, ping_timeout_ms=3_000) as node:
        yield node


async def answers_an_honest_peer(target, name="honest"):
    heard, stored, numbers = [], [], itertools.count(1)
    async with open_node(name, target.addresses()[0]) as honest:

        async def store():
            record = f"{honest.peer_id} {next(numbers)}".encode()
            stored.extend([record] * await honest.put_record(record))

        target.subscribe("calls", lambda peer, data: heard.append(data) or Verdict.ACCEPT)
        await until_answered(honest, target.peer_id)
        await repeated(store, lambda: stored)
        await repeated(lambda: honest.publish("calls", b"news"), lambda: b"news" in heard)


@pytest.mark.parametrize(
    "attack, is_blamed",
    [
        ("garbage_on_tcp", False),  # Nobody has said who it is.
        ("gossip_garbage", True),
        ("gossip_bad_key", True),
        ("message_garbage", True),
        ("message_huge", True),
        ("idle_streams", False),
        ("many_streams", False),
        ("stalled_reader", False),
    ],
)
async def test_the_node_survives(target, attack, is_blamed):
    blamed = []
    blame = target._context.scores.blame
    target._context.scores.blame = lambda fault: blamed.append(fault.peer) or blame(fault)
    async with attacker(attack, target.addresses()[0]) as process:
        line = await read_line(process)
        if line == "ready":
            await until(target.peers)
            evil = target.peers()[0].peer_id
            line = await read_line(process)
        assert line.startswith(("done", "over"))
        if is_blamed:
            await until(lambda: evil in blamed)
        await answers_an_honest_peer(target)
    await until(lambda: not target.peers())
    assert target.peer_id not in blamed


async def test_half_open_connections_do_not_keep_others_out():
    async with (
        attacked(upgrade_timeout_ms=1_500) as target,
        attacker("half_open", target.addresses()[0]) as process,
    ):
        assert await read_line(process) == "done"
        # The honest peer comes from the same address: it gets in when the others have timed out.
        await answers_an_honest_peer(target)


async def test_flow_control_is_enforced(target):
    before_mib = resident_mib()
    async with attacker("ignores_flow_control", target.addresses()[0]) as process:
        assert await read_line(process) == "ready"
        await until(target.peers)
        await read_line(process)
        await until(lambda: not target.peers())
        assert resident_mib() - before_mib < 30
        await answers_an_honest_peer(target)


async def test_a_stopped_peer_is_noticed():
    async with (
        attacked(ping_timeout_ms=3_000) as target,
        attacker("nothing", target.addresses()[0]) as process,
    ):
        assert await read_line(process) == "ready"
        await until(target.peers)
        process.send_signal(signal.SIGSTOP)
        await until(lambda: not target.peers())  # When: test_muxer.py, by a clock of its own.
        await answers_an_honest_peer(target)


async def test_plaintext_is_refused(target):
    stream = await trio.open_tcp_stream("127.0.0.1", int(target.addresses()[0].split("/")[4]))
    async with stream:
        await stream.send_all(b"\x13/multistream/1.0.0\n\x11/plaintext/2.0.0\n")
        answer = b""
        with trio.fail_after(WAIT_S):
            while b"na\n" not in answer and (data := await stream.receive_some(1000)):
                answer += data
        assert b"\x03na\n" in answer
