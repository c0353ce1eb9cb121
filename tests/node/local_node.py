"""Whole daemons in one process: all parts are real except libp2p and the containers.

A node is assembled as in the daemon; only its ports differ. It can be ended at any point, as by a
crash, and started again on the same folder.
Spec: specs/core.md#daemon.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from node.config import Config, ProviderSettings
from node.daemon.assemble import Node, Ports, Sandbox, assemble
from node.driver.clock import Clock
from node.network.gossip import Rule, Screen
from node.network.interface import NoBulk, Peer, PeerEvents
from node.network.messages import Handler as RequestHandler
from node.network.traffic import Traffic
from node.sandbox.driver import Exit
from node.service.jobs import JobService
from node.storage.journal import Journal
from protocol.machines.context import Policy
from protocol.values.errors import PeerFault, PeerUnreachable
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signer
from tests.node.fixtures import NodeFolder, ObedientSandbox, spec_of, until
from tests.node.memory_stream import Handler, MemoryStreams


class MemoryNetwork:
    """Delivers each node's messages to the other running nodes, at once and complete."""

    def __init__(self, own: "LocalNode", events: PeerEvents, network: "LocalNetwork") -> None:
        self.peer_id = own.signer.peer_id
        self.events = events
        self.others = network.nodes
        self.streams = network.streams
        self.open_stream = network.streams.opener(self.peer_id)
        self.bulk = NoBulk()
        self.published: list[tuple[str, bytes]] = []
        self.undelivered: list[bytes] = []
        self.records: list[bytes] = []
        self.puts_fail = 0
        self.learnt: list[tuple[PeerId, tuple[str, ...]]] = []
        self.topics: dict[str, tuple[Rule, Screen]] = {}
        self.answer: RequestHandler

    def addresses(self) -> tuple[str, ...]:
        return (f"/ip4/127.0.0.1/tcp/1/p2p/{self.peer_id}",)

    def announced(self) -> tuple[str, ...]:
        return self.addresses()

    def peers(self) -> tuple[Peer, ...]:
        return tuple(Peer(peer, "/ip4/127.0.0.1/tcp/2", "in", 5) for peer in self._reachable())

    def traffic(self) -> Traffic:
        return Traffic(messages_sent=3)

    def source_of(self, peer: PeerId) -> str:
        return f"home of {peer}"

    def blame(self, fault: PeerFault) -> None:
        raise AssertionError(f"an honest node was blamed: {fault}") from fault

    def on_request(self, handler: RequestHandler) -> None:
        self.answer = handler

    def on_stream(self, protocol: str, handler: Handler) -> None:
        self.streams.handlers[self.peer_id, protocol] = handler

    def subscribe(self, topic: str, rule: Rule, screen: Screen) -> None:
        self.topics[topic] = (rule, screen)

    async def request(self, peer: PeerId, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if peer not in self._reachable():
            self.undelivered.append(data)
            raise PeerUnreachable("away")
        try:
            return await (await self.others[peer].network.answer(self.peer_id, data))()
        except PeerFault as fault:
            self.blame(fault)
            raise

    request_anew = request

    async def answers(self, peer: PeerId) -> bool:
        return peer in self._reachable()

    async def round_trip_us(self, peer: PeerId) -> int:
        await trio.lowlevel.checkpoint()
        if peer not in self._reachable():
            raise PeerUnreachable("away")
        return 250

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append((topic, data))
        for peer in self._reachable():
            rule, screen = self.others[peer].network.topics.get(topic, NOT_HEARD)
            if screen(self.peer_id, data):
                rule(self.peer_id, data)

    async def reach(self, peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        if peer not in self._reachable():
            raise PeerUnreachable("away")

    def learn(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self.learnt.append((peer, addresses))

    async def put_record(self, data: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        self.records.append(data)
        self.puts_fail -= 1
        return self.puts_fail < 0

    async def get_record(self, peer: PeerId) -> bytes | None:
        await trio.lowlevel.checkpoint()
        found = self.others[peer].network.records
        return found[-1] if found else None

    def close(self) -> None:
        for peer, protocol in list(self.streams.handlers):
            if peer == self.peer_id:
                del self.streams.handlers[peer, protocol]

    def _reachable(self) -> list[PeerId]:
        return [p for p, other in self.others.items() if p != self.peer_id and other.alive]


def _let_nothing_pass(_peer: PeerId, _data: bytes) -> bool:
    return False


NOT_HEARD = (_let_nothing_pass, _let_nothing_pass)
"""The handlers of a topic without a subscription."""


class LocalNode:
    """One node; each `run` is one life."""

    def __init__(
        self, signer: Signer, folder: Path, journal: Journal, policy: Policy, sandbox: Any = None
    ) -> None:
        self.signer = signer
        self.folder = folder
        self.journal = journal
        self.policy = policy
        self.sandbox = sandbox
        self.settings = ProviderSettings()
        self.alive = False
        self.life = trio.CancelScope()
        self.node: Node
        self.network: MemoryNetwork

    @property
    def node_folder(self) -> NodeFolder:
        """Return the node's folders with the parts of this life."""
        context = self.node.context
        return NodeFolder(self.folder, self.journal, context.blobs, context.images, context, None)

    async def run(
        self, network: "LocalNetwork", task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        config = Config(data_dir=self.folder, provider=self.settings)
        ports = Ports(
            config, self.signer, Clock(), self.journal,
            Sandbox(self.sandbox, "it works"), self.policy, partial(self._open_network, network),
            trio.Event(),
        )  # fmt: skip
        self.life = trio.CancelScope()
        with self.life:
            async with assemble(ports) as self.node, trio.open_nursery() as nursery:
                await nursery.start(self.node.run)
                self.alive = True
                network.introduce(self)
                task_status.started()
        self.alive = False
        assert not self.node.core.illegal, "an honest node did what is illegal"

    async def crash(self) -> None:
        """End this life without an orderly stop."""
        self.life.cancel()
        await until(lambda: not self.alive, "the node to die")

    @asynccontextmanager
    async def _open_network(
        self, network: "LocalNetwork", events: PeerEvents, _records: Any
    ) -> AsyncIterator[MemoryNetwork]:
        self.network = MemoryNetwork(self, events, network)
        try:
            yield self.network
        finally:
            self.network.close()


class LocalNetwork:
    """Machines that know each other."""

    def __init__(self, nursery: trio.Nursery, streams: MemoryStreams) -> None:
        self.nodes: dict[PeerId, LocalNode] = {}
        self.streams = streams
        self.nursery = nursery

    async def start(self, node: LocalNode) -> None:
        self.nodes[node.signer.peer_id] = node
        await self.nursery.start(node.run, self)

    def introduce(self, node: LocalNode) -> None:
        for other in self.nodes.values():
            if other is not node and other.alive:
                other.network.events.peer_connected(node.signer.peer_id)
                node.network.events.peer_connected(other.signer.peer_id)

    async def acquainted(self) -> None:
        """Wait until every node has the records of all other nodes."""
        count = len(self.nodes) - 1
        for one in self.nodes.values():
            await until(
                lambda one=one: len(one.node.core.directory.listings(0)) == count, "records"
            )


@asynccontextmanager
async def open_local_network(
    streams: MemoryStreams, *nodes: LocalNode
) -> AsyncIterator[LocalNetwork]:
    async with trio.open_nursery() as nursery:
        network = LocalNetwork(nursery, streams)
        for node in nodes:
            await network.start(node)
        await network.acquainted()
        yield network
        nursery.cancel_scope.cancel()


class LocalPair:
    """A requester and a provider that know each other."""

    def __init__(self, network: LocalNetwork, ada: LocalNode, bea: LocalNode) -> None:
        self.network, self.ada, self.bea = network, ada, bea

    @property
    def jobs(self) -> JobService:
        """Return the requester's job service."""
        return self.ada.node.jobs

    @property
    def sandbox(self) -> ObedientSandbox:
        return self.bea.sandbox

    async def submit(self, *inputs: tuple[str, bytes], **changes: Any) -> str:
        workload = await self.ada.node_folder.workload(*inputs)
        return (await self.jobs.submit(spec_of(workload, **changes))).id

    async def phase(self, job: str, *phases: str) -> Any:
        """Wait until a job is in one of these phases."""
        with trio.fail_after(15):
            while (view := await self.jobs.get(job)).phase not in phases:  # noqa: ASYNC110
                await trio.sleep(0.005)
        return view

    async def running(self, **changes: Any) -> str:
        job = await self.submit(**changes)
        await self.phase(job, "running")
        return job

    async def container(self) -> Any:
        """Return the folder of the only running container."""
        containers = self.sandbox.containers
        return await until(
            lambda: next((f for f in containers if not containers[f].ended.is_set()), None)
        )

    async def finish(self, job: str, code: int = 0, **files: bytes) -> Any:
        self.sandbox.finish(await self.container(), Exit(code, "exited", "", 1), **files)
        return await self.phase(job, "done")
