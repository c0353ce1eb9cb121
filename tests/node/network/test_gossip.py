"""Topics: subscribing, judging and forwarding.

Spec: specs/gossip.md.
"""

from collections import Counter
from contextlib import AsyncExitStack

from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from multiaddr import Multiaddr

from node.network import gossip
from protocol.rules.verdict import Verdict
from protocol.values.errors import RuleBroken
from tests.node.network.fixtures import connected_nodes, open_node, repeated, tuned, until

TOPIC = "/mutirao/mutirao/calls"


class Ear:
    """A rule that remembers what it was asked, and says the same each time."""

    def __init__(self, verdict=Verdict.ACCEPT):
        self.heard = []
        self.verdict = verdict

    def __call__(self, peer, data):
        self.heard.append((peer, data))
        return self.verdict

    def data(self):
        return [data for _, data in self.heard]


async def hears(ear, speaker, topic="calls"):
    """Speak until the ear hears, then forget what it heard."""
    await repeated(lambda: speaker.publish(topic, b"probe"), lambda: b"probe" in ear.data())


def count_copies(node, copies):
    """Count the numbered messages that come to a node, before any is dropped."""
    push = node._stack.pubsub.push_msg

    async def counting(forwarder, msg):
        copies[node.peer_id] += msg.data.isdigit()
        await push(forwarder, msg)

    node._stack.pubsub.push_msg = counting


async def test_each_message_is_judged_once_though_it_comes_from_many():
    ears = [Ear() for _ in range(5)]
    copies = Counter()
    async with connected_nodes(5) as nodes:
        for node, ear in zip(nodes, ears, strict=True):
            node.subscribe("calls", ear)
            count_copies(node, copies)
        for node in nodes:
            mesh = node._stack.gossipsub.mesh
            await until(lambda mesh=mesh: len(mesh.get(TOPIC, ())) == 4)
        for ear in ears[1:]:
            await hears(ear, nodes[0])
        for number in range(20):
            await nodes[0].publish("calls", b"%d" % number)
        expected = sorted(b"%d" % number for number in range(20))
        for ear in ears[1:]:
            await until(lambda ear=ear: len(set(ear.data()) & set(expected)) == 20)
        # Copies come over the same streams as what is said after them.
        ends = {node.peer_id.encode() for node in nodes}
        for node in nodes:
            await node.publish("calls", node.peer_id.encode())
        for node, ear in list(zip(nodes, ears, strict=True))[1:]:
            others = ends - {node.peer_id.encode()}
            await until(lambda ear=ear, others=others: others <= set(ear.data()))
            told = [data for data in ear.data() if data != b"probe" and data not in ends]
            assert sorted(told) == expected
            assert copies[node.peer_id] > len(expected)  # The others have forwarded theirs.
        told = set(ears[0].data()) - ends
        assert told == set()  # Our own words do not come back.


async def line(exits, **changes):
    """Three nodes in a line: a — b — c."""
    quiet = tuned(connections_wanted=0)
    b = await exits.enter_async_context(open_node("b", tuning=quiet))
    ends = []
    for name in ("a", "c"):
        node = await exits.enter_async_context(open_node(name, b.addresses()[0], tuning=quiet))
        node._stack.swarm.refuses = lambda peer, b=b: peer.to_base58() != b.peer_id
        ends.append(node)
    await until(lambda: len(b.peers()) == 2)
    return ends[0], b, ends[1]


async def test_what_is_accepted_is_forwarded_and_what_is_ignored_is_not():
    async with AsyncExitStack() as exits:
        a, b, c = await line(exits)
        middle, end = Ear(), Ear()
        b.subscribe("calls", middle)
        c.subscribe("calls", end)
        await hears(end, a)
        assert all(peer == a.peer_id for peer, _ in middle.heard)
        assert all(peer == b.peer_id for peer, _ in end.heard)  # The forwarding peer.
        middle.verdict = Verdict.IGNORE
        await a.publish("calls", b"ignored")
        await until(lambda: b"ignored" in middle.data())
        middle.verdict = Verdict.ACCEPT
        await a.publish("calls", b"last")
        await until(lambda: b"last" in end.data())
        assert b"ignored" not in end.data()
        assert b._context.scores.penalty(a.peer_id) == 0


async def test_what_the_screen_does_not_let_pass_reaches_no_rule():
    async with connected_nodes(2) as (a, b):
        ear = Ear()
        b.subscribe("calls", ear, lambda peer, data: peer == a.peer_id and data != b"no")
        await hears(ear, a)
        await a.publish("calls", b"no")
        await a.publish("calls", b"yes")
        await until(lambda: b"yes" in ear.data())
        assert b"no" not in ear.data()


async def test_what_is_rejected_costs_the_sender():
    async with connected_nodes(2) as (a, b):
        ear = Ear(Verdict.REJECT)
        b.subscribe("calls", ear)
        await hears(ear, a)
        assert b._context.scores.penalty(a.peer_id) >= RuleBroken.penalty - 1
        await repeated(lambda: a.publish("calls", b"again"), lambda: not b.peers())


async def test_forty_topics_at_once_and_none_after_unsubscribing():
    async with connected_nodes(2) as (a, b):
        ears = {f"topic {number}": Ear() for number in range(40)}
        for topic, ear in ears.items():
            b.subscribe(topic, ear)
        for topic, ear in ears.items():
            await hears(ear, a, topic)
        b.unsubscribe("topic 0")
        heard = len(ears["topic 0"].heard)
        await a.publish("topic 0", b"x")
        await a.publish("topic 1", b"x")
        await until(lambda: b"x" in ears["topic 1"].data())
        assert len(ears["topic 0"].heard) == heard


async def test_a_topic_that_the_greeting_missed_is_told_after_it(monkeypatch):
    monkeypatch.setattr(gossip, "GREET_EVERY_S", 3600)
    async with open_node("a") as a, open_node("b") as b:
        pubsub = b._stack.pubsub
        b.subscribe("calls", Ear())
        await until(lambda: pubsub.topic_ids)
        true_greeting = pubsub.get_hello_packet
        greetings = iter([rpc_pb2.RPC])  # The first says nothing: it was made too early.

        def greeting():
            return next(greetings, true_greeting)()

        monkeypatch.setattr(pubsub, "get_hello_packet", greeting)
        b._peering._book.learn(a.peer_id, [Multiaddr(a.addresses()[0].partition("/p2p/")[0])])
        await until(lambda: a._stack.pubsub.peer_topics)


async def test_forgotten_topics_are_told_again(monkeypatch):
    monkeypatch.setattr(gossip, "GREET_EVERY_S", 0.2)
    async with connected_nodes(2) as (a, b):
        b.subscribe("calls", Ear())
        hearer, speaker = a._stack.pubsub, ID.from_base58(b.peer_id)
        await until(lambda: hearer.peer_topics)
        hearer._forget_all_subscriptions(speaker)  # As libp2p does when a connection is closed.
        assert not hearer.peer_topics
        await until(lambda: hearer.peer_topics)


async def test_nobody_needs_to_listen():
    async with open_node("a") as a:
        await a.publish("calls", b"x")
