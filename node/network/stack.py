"""Builds libp2p's parts, and runs them so that they end in order.

The only security protocol is Noise, the only multiplexer Yamux, the only transport TCP. Libp2p's
defaults would accept plaintext connections under any identity.

Spec: specs/network.md.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr
from trio import TaskStatus

from node.network.addresses import kind_of, parse_announced, reachable
from node.network.connected_peers import source_of_peer
from node.network.dials import Dials
from node.network.gossipsub import RepairedGossipSub
from node.network.interface import NetworkConfig, Tuning
from node.network.kademlia import PUBLIC_PROTOCOL, RepairedKademlia, protocol_of
from node.network.libp2p_errors import contained
from node.network.muxer import PROTOCOL as YAMUX
from node.network.muxer import STREAMS_MAX, Muxer, RepairedYamux
from node.network.peerstore import BoundedPeerStore
from node.network.pubsub import (
    SEEN_S,
    TOPICS_PER_PEER_MAX,
    RepairedPubsub,
)
from node.network.records import RecordValidator
from node.network.swarm import CONNECTIONS_PER_PEER_MAX, Admission, RepairedSwarm
from node.network.traffic import Traffic
from node.network.transport import ExclusiveListener, ExclusiveTCP

NEGOTIATION_S: Final = 10.0
CONNECTIONS_MAX: Final = 4096
"""Libp2p's limits, above those of swarm.py: they also count connections that are closing."""


class RepairedHost(BasicHost):
    """A host with a separate DHT, which no stream handler can end."""

    def __init__(self, swarm: RepairedSwarm, config: NetworkConfig) -> None:
        self._renamed = {PUBLIC_PROTOCOL: protocol_of(config.network_name)}
        self._announce = [parse_announced(text) for text in config.announce]
        super().__init__(swarm, addrs_factory=lambda found: self._announce or reachable(found))

    def own_addresses(self) -> list[Multiaddr]:
        """Return our own addresses, without those that peers report."""
        return self._announce or reachable(self.get_transport_addrs())

    def set_stream_handler(self, protocol_id: TProtocol, stream_handler: StreamHandlerFn) -> None:
        super().set_stream_handler(self._renamed.get(protocol_id, protocol_id), stream_handler)

    async def new_stream(self, peer_id: ID, protocol_ids: Sequence[TProtocol]) -> INetStream:
        return await super().new_stream(peer_id, [self._renamed.get(p, p) for p in protocol_ids])

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        """Serve a stream that a peer opened. In libp2p an exception here would end the node."""
        muxed = net_stream.muxed_conn
        crowded = isinstance(muxed, RepairedYamux) and len(muxed.streams) > STREAMS_MAX
        with contained("stream handler") as handling:
            if not crowded:
                await super()._swarm_stream_handler(net_stream)
        if crowded or handling.failed:
            with contained("reset of a stream"):
                await net_stream.reset()


@dataclass(frozen=True, slots=True)
class Stack:
    """The parts of libp2p that make up our network."""

    swarm: RepairedSwarm
    host: RepairedHost
    dht: RepairedKademlia
    gossipsub: RepairedGossipSub
    pubsub: RepairedPubsub
    transport: ExclusiveTCP
    traffic: Traffic
    stopping: trio.Event


def build_stack(
    config: NetworkConfig,
    seed: bytes,
    tuning: Tuning,
    admission: Admission,
    validator: RecordValidator,
) -> Stack:
    """Build the parts from the 32-byte seed of the node's key; nothing runs yet."""
    traffic = Traffic()
    transport = ExclusiveTCP(traffic)
    peerstore = BoundedPeerStore(create_new_key_pair(seed))
    muxer = Muxer(tuning, admission.is_known)
    swarm = _build_swarm(peerstore, tuning, transport, muxer)
    swarm.guard(tuning, admission)
    host = RepairedHost(swarm, config)
    swarm.dials = Dials(lambda: set(map(kind_of, host.own_addresses())))
    source_of = partial(source_of_peer, swarm)
    gossipsub = RepairedGossipSub(source_of)
    pubsub = RepairedPubsub(
        host,
        gossipsub,
        source_of=source_of,
        traffic=traffic,
        strict_signing=True,
        seen_ttl=SEEN_S,
        max_subscriptions_per_peer=TOPICS_PER_PEER_MAX,
    )
    dht = RepairedKademlia(host, validator, admission.is_known)
    table = dht.routing_table
    peerstore.guard(lambda peer: peer in swarm.connections or table.peer_in_table(peer))
    return Stack(swarm, host, dht, gossipsub, pubsub, transport, traffic, trio.Event())


async def run_stack(
    stack: Stack,
    listen: Sequence[Multiaddr],
    tuning: Tuning,
    task_status: TaskStatus[Multiaddr | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the parts until `stopping` is set; then end them in order, within the time-out.

    Starts with None, or ends with the address on which it could not listen. Shielded: cancelling
    the node cancels the users of the network and sets `stopping`. libp2p itself is never cancelled
    in the middle of its work, because it does not tolerate that.
    """
    with trio.CancelScope(shield=True) as scope:
        async with AsyncExitStack() as exits:
            exits.callback(stack.transport.abort)
            await exits.enter_async_context(stack.host.run(listen_addrs=list(listen)))
            exits.push_async_callback(stack.host.close)
            taken = _not_listening(stack.swarm, listen)
            if taken is not None:
                task_status.started(taken)
                return
            for service in (stack.dht, stack.pubsub, stack.gossipsub):
                await exits.enter_async_context(background_trio_service(service))
            await stack.pubsub.wait_until_ready()
            task_status.started(None)
            await stack.stopping.wait()
            scope.deadline = trio.current_time() + tuning.close_timeout_ms / 1000
            await _stop_listening(stack.swarm)
            await _close_connections(stack.swarm)


def _build_swarm(
    peerstore: BoundedPeerStore, tuning: Tuning, transport: ExclusiveTCP, muxer: Muxer
) -> RepairedSwarm:
    noise = Noise(peerstore.key_pair, noise_privkey=create_new_x25519_key_pair().private_key)
    upgrader = TransportUpgrader({NOISE: noise}, {TProtocol(YAMUX): RepairedYamux})
    upgrader.muxer_multistream = muxer
    upgrade_s = tuning.upgrade_timeout_ms / 1000
    return RepairedSwarm(
        peerstore.own,
        peerstore,
        upgrader,
        [transport],
        retry_config=RetryConfig(max_retries=0),  # peering.py tries again.
        connection_config=ConnectionConfig(
            max_connections=CONNECTIONS_MAX,
            high_watermark=CONNECTIONS_MAX,
            low_watermark=0,  # With min_connections 0: libp2p does not dial by itself.
            min_connections=0,
            max_connections_per_peer=CONNECTIONS_PER_PEER_MAX,
            inbound_upgrade_timeout=upgrade_s,
            outbound_upgrade_timeout=upgrade_s,
            outbound_stream_protocol_negotiation_timeout=NEGOTIATION_S,
            inbound_stream_protocol_negotiation_timeout=NEGOTIATION_S,
        ),
    )


def _not_listening(swarm: RepairedSwarm, listen: Sequence[Multiaddr]) -> Multiaddr | None:
    """Return an address on which libp2p failed to listen; it reports no error itself."""
    missing = (address for address in listen if str(address) not in swarm.listeners)
    return next(missing, None)


async def _stop_listening(swarm: RepairedSwarm) -> None:
    """Stop before the connections are closed: a disconnected peer would reconnect at once."""
    for listener in swarm.listeners.values():
        if isinstance(listener, ExclusiveListener):
            await listener.stop_accepting()


async def _close_connections(swarm: RepairedSwarm) -> None:
    """Close all connections in parallel; libp2p takes 0.2 s for each, one after the other."""
    async with trio.open_nursery() as nursery:
        for connection in swarm.get_connections():

            async def close(connection: INetConn = connection) -> None:
                with contained("closing a connection"):
                    await connection.close()

            nursery.start_soon(close)
