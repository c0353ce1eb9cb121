"""Everything that peers exchange is counted, by both.

Spec: specs/network.md#traffic.
"""

from dataclasses import astuple

from protocol.rules.verdict import Verdict
from tests.node.network.fixtures import connected_nodes, echo, repeated, until

LARGE = bytes(100_000)


async def test_what_is_sent_is_counted_at_both_ends():
    heard = []

    def rule(_peer, data):
        heard.append(data)
        return Verdict.ACCEPT

    async with connected_nodes(2) as (a, b):
        a.on_request(echo)
        b.subscribe("calls", rule)
        before_a, before_b = a.traffic(), b.traffic()
        for _ in range(3):
            await b.request(a.peer_id, LARGE)
        await b.request_anew(a.peer_id, b"probe")
        await repeated(lambda: a.publish("calls", b"x"), lambda: heard)
        now_a, now_b = a.traffic(), b.traffic()
        assert now_b.messages_sent - before_b.messages_sent == 4
        assert now_a.messages_received - before_a.messages_received == 4
        assert now_a.messages_sent == before_a.messages_sent, "answers are no messages"
        for sent, received in ((now_b, before_b), (now_a, before_a)):
            grown = sent.bytes_sent - received.bytes_sent
            assert 3 * len(LARGE) < grown < 4 * len(LARGE), "of requests, and of their answers"
        await until(lambda: b.traffic().gossip_received == a.traffic().gossip_sent > 0)
        assert b.traffic().gossip_sent == 0, "nobody else is there"
        kept = astuple(before_a)
        await b.request(a.peer_id, b"x")
        assert astuple(before_a) == kept, "what was returned does not change"
