"""libp2p's gossip, with our own verdict on every message, which no stranger can stop.

Defects repaired here by subclass: bytes that are not protobuf, or a malformed key, end the service
and with it the process; every message of an RPC gets its own task before the messages are counted;
an invalid message is judged again for each copy; all messages wait in a queue that is not needed
here, besides the verdict; a peer misses a topic to which we subscribe while we greet it, and
forgets all our topics when one of two connections is closed.

Spec: specs/gossip.md.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.abc import INetStream
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator

from node.network.interface import SizeLimits
from node.network.libp2p_errors import contained
from node.network.rate_limits import RateLimits
from node.network.rpc_stream import LARGE_AT_ONCE_MAX, RpcStream
from node.network.traffic import Traffic
from protocol.rules.verdict import Verdict

TOPIC_BYTES_MAX: Final = 128
TOPICS_PER_PEER_MAX: Final = 64  # A node needs 21 at most: topics_of.
RPC_ENTRIES_MAX: Final = 1024  # Messages, subscriptions, control messages and ids in them.
STREAMS_PER_PEER_MAX: Final = 4  # One is enough; more while broken ones still exist.
SEEN_S: Final = 120
BURST_MAX: Final = 400  # Messages from one peer at once, and per second thereafter:
RATE_PER_S: Final = 50
ENTRIES_BURST_MAX: Final = 4096  # Entries of a peer's RPCs, in the same way:
ENTRIES_PER_S: Final = 512
RPC_ENTRIES: Final = 4  # The RPC itself counts as this many entries: reading it costs as much.

Screen = Callable[[ID, str, bytes], bool]  # The forwarding peer, the topic, the data.
Judge = Callable[[ID, str, bytes], Verdict]  # The same.
Accuse = Callable[[ID, str], None]  # The peer at fault, and why.


class RepairedPubsub(Pubsub):
    """Passes each message to our judge once, and forwards those that it accepts."""

    _screen: Screen
    _judge: Judge
    _accuse: Accuse
    _prefix: str

    def __init__(
        self, *args: Any, source_of: Callable[[ID], str], traffic: Traffic, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._traffic = traffic
        self._streams: Counter[ID] = Counter()
        self._large = trio.CapacityLimiter(LARGE_AT_ONCE_MAX)
        self._messages = RateLimits(BURST_MAX, RATE_PER_S, source_of)
        self._entries = RateLimits(ENTRIES_BURST_MAX, ENTRIES_PER_S, source_of)

    def guard(self, screen: Screen, judge: Judge, accuse: Accuse, prefix: str) -> None:
        """Set the checks before and after signature verification, and the receiver of faults.

        Our topics begin with the prefix.
        """
        self._screen = screen
        self._judge = judge
        self._accuse = accuse
        self._prefix = prefix

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge and forward a message. libp2p calls this for peers' messages and for ours."""
        if msg_forwarder == self.my_id:
            self._mark_msg_seen(msg)
            await self.router.publish(msg_forwarder, msg)
            return
        with contained("gossip message"):
            if self._is_acceptable(msg_forwarder, msg):
                await self.router.publish(msg_forwarder, msg)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Do nothing: the judge has passed the message on."""

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Read a peer's gossip until it ends; invalid bytes are the peer's fault."""
        peer_id = stream.muxed_conn.peer_id
        if self._streams[peer_id] >= STREAMS_PER_PEER_MAX:
            with contained("gossip stream"):
                await stream.reset()
            return
        self._streams[peer_id] += 1
        try:
            with contained("gossip stream") as reading:
                await self._read(stream, peer_id)
        finally:
            self._streams[peer_id] -= 1
            self._streams = +self._streams  # Removes entries of 0.
            if not self._peer_is_connected(peer_id):  # It disconnected before its bytes were read.
                self._handle_dead_peer(peer_id)
        if reading.failed:
            self._accuse(peer_id, "gossip that breaks the rules of RPCs")
            with contained("gossip stream"):
                await stream.reset()

    async def _read(self, stream: INetStream, peer_id: ID) -> None:
        """Process RPC after RPC. Raises the error of an invalid one, and nothing at the end."""
        rpcs = RpcStream(stream, self._large)
        while True:
            try:
                data = await rpcs.receive()
            except IOException:
                return  # The stream or its connection is closed.
            rpc = rpc_pb2.RPC()
            rpc.ParseFromString(data)
            self._traffic.gossip_received += len(rpc.publish)
            # The peer waits for its tokens before it costs us anything else.
            entries = _entries_of(rpc)
            await trio.sleep(self._entries.owe(peer_id, RPC_ENTRIES + entries))
            await self._take(peer_id, rpc)

    async def _take(self, peer_id: ID, rpc: rpc_pb2.RPC) -> None:
        """Process an RPC that is within the limits. Its senderRecord is not read.

        Identify reports a peer's addresses.
        """
        granted = self._messages.take(peer_id, len(rpc.publish))
        for msg in rpc.publish[:granted]:
            if self._is_subscribed_to_msg(msg):
                await self.push_msg(peer_id, msg)
                await trio.lowlevel.checkpoint()  # Verifying a signature takes time.
        for subscription in rpc.subscriptions:
            await self._take_subscription(peer_id, subscription)
        await self.router.handle_rpc(rpc, peer_id)

    async def _take_subscription(self, peer_id: ID, wanted: rpc_pb2.RPC.SubOpts) -> None:
        """Record that a peer subscribed or unsubscribed. libp2p would start tasks for it."""
        topic = wanted.topicid
        if not wanted.subscribe:
            self._forget_subscription(peer_id, topic)
            return
        ours = len(topic) <= TOPIC_BYTES_MAX and topic.startswith(self._prefix)
        known = peer_id in self.peer_topics.get(topic, ())
        count = self._peer_subscription_count.get(peer_id, 0)
        if not ours or known or count >= self.max_subscriptions_per_peer:
            return
        self.peer_topics.setdefault(topic, set()).add(peer_id)
        self._peer_subscription_count[peer_id] = count + 1
        await self._replay_recent_messages(peer_id, topic)
        await self.router.on_peer_subscribed(peer_id, topic)

    async def write_msg(self, stream: INetStream, rpc_msg: rpc_pb2.RPC) -> bool:
        self._traffic.gossip_sent += len(rpc_msg.publish)
        return await super().write_msg(stream, rpc_msg)

    def greet_again(self) -> None:
        """Send all peers our topics again, which is harmless to those that know them."""
        for peer_id in tuple(self.peer_queues):
            self._greet(peer_id)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        await super()._handle_new_peer(peer_id)
        # The greeting may be older than our last subscription, which was not announced to a peer
        # that was not yet in the list.
        self._greet(peer_id)

    def _greet(self, peer_id: ID) -> None:
        queue = self.peer_queues.get(peer_id)
        if queue is not None and self.topic_ids:
            queue.push(self.get_hello_packet())

    async def _replay_recent_messages(self, peer_id: ID, topic: str) -> None:
        with contained("gossip to a new subscriber"):
            await super()._replay_recent_messages(peer_id, topic)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        super()._handle_dead_peer(peer_id)
        self.router.remove_peer(peer_id)  # libp2p does not, if it had not greeted the peer yet.

    def _is_acceptable(self, forwarder: ID, msg: rpc_pb2.Message) -> bool:
        """Return whether to forward the message. No await: no copy can be judged meanwhile."""
        if msg.from_id == self.my_id.to_bytes() or self._is_msg_seen(msg):
            return False
        if (
            len(msg.topicIDs) != 1
            or len(msg.data) > SizeLimits.GOSSIP_BYTES_MAX
            or len(msg.seqno) != 8
        ):
            self._accuse(forwarder, "a message of a wrong form")
            return False
        if not self._screen(forwarder, msg.topicIDs[0], msg.data):
            return False
        if not _is_signed(msg):
            self._accuse(forwarder, "a message that its author did not sign")
            return False
        verdict = self._judge(forwarder, msg.topicIDs[0], msg.data)
        # Only now: neither a forgery nor a copy from a peer beyond its limit may block the true
        # message of the same number.
        if verdict is not Verdict.LATER:
            self._mark_msg_seen(msg)
        if verdict is Verdict.REJECT:
            self._accuse(forwarder, "a message that the rules of its topic reject")
        return verdict is Verdict.ACCEPT


def _entries_of(rpc: rpc_pb2.RPC) -> int:
    """Count the entries of an RPC, without reading them; raise ValueError if too many."""
    control = rpc.control
    entries = len(rpc.publish) + len(rpc.subscriptions) + len(control.graft) + len(control.prune)
    entries += len(control.ihave) + len(control.iwant) + len(control.idontwant)
    if entries <= RPC_ENTRIES_MAX:
        entries += sum(len(ihave.messageIDs) for ihave in control.ihave)
        entries += sum(len(iwant.messageIDs) for iwant in control.iwant)
    if entries > RPC_ENTRIES_MAX:
        raise ValueError(f"an RPC of {entries} entries")
    return entries


def _is_signed(msg: rpc_pb2.Message) -> bool:
    with contained("gossip signature"):
        return signature_validator(msg)
    return False
