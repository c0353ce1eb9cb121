"""Assembles a node: the only place that makes its parts and connects them.

The daemon and the nodes of the tests differ only in their ports.
Spec: specs/core.md#daemon.
"""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from node.config import Config
from node.daemon.effects import EffectTable, Performers
from node.daemon.recovery import Past, recall
from node.data.blobs import Blobs
from node.data.images import Images
from node.data.log_protocol import PROTOCOL as LOG_PROTOCOL
from node.data.range_server import RangeServer
from node.data.throttle import Throttle
from node.data.transfer import PROTOCOL as BLOB_PROTOCOL
from node.data.transfer import BlobFetcher, BlobServer, Ways
from node.driver.clock import Clock
from node.driver.driver import Driver
from node.egress.egress import Egress
from node.egress.log import EgressLog
from node.hardware.gpu import Gpu
from node.hardware.telemetry import GpuTelemetry
from node.identity import private_dir
from node.messaging.announcer import Announcer
from node.messaging.connectivity_log import log_connectivity
from node.messaging.connector import Connector
from node.messaging.measurer import Measurer
from node.messaging.outbox_sender import OutboxSender
from node.messaging.prober import Prober
from node.messaging.receiver import Receiver
from node.messaging.record_lookup import look_up_records
from node.messaging.undelivered import Undelivered
from node.network.bulk import PROTOCOL as BULK_PROTOCOL
from node.network.host import Network
from node.network.interface import PeerEvents
from node.owner.activity import OwnerActivity
from node.owner.conditions import Conditions, Sensors
from node.owner.control import OwnerControl
from node.owner.heat import PowerMeter
from node.owner.reloading import ConfigSource, Reloader
from node.provider.bid_log import BidLog
from node.provider.execution_context import ExecutionContext
from node.provider.executions import Executions
from node.provider.gpu_guard import GpuGuard
from node.provider.image_cache import ImageCache
from node.provider.log_server import LogServer
from node.provider.preparation import PreparationMeter
from node.provider.proofs import Proofs
from node.requester.results import Results
from node.rpc.service import Service
from node.sandbox.driver import SandboxDriver
from node.service.advice import AdviceService
from node.service.egress import EgressService
from node.service.gpus import GpuService
from node.service.images import ImageService
from node.service.jobs import JobService
from node.service.node import NodeService
from node.service.owner import OwnerService
from node.service.traces import TraceService
from node.storage.journal import Journal
from protocol.core.core import Core
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Effect
from protocol.machines.inputs import PeerConnected, PeerDisconnected, StopRequested
from protocol.rules.topics import topics_of
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signer

REFUSALS_MAX: Final = 200
"""The refusals that a node remembers for its owner."""
OpenNetwork = Callable[[PeerEvents, Receiver], AbstractAsyncContextManager[Network]]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The sandbox that this node uses, if one works, and the reason for the choice."""

    driver: SandboxDriver | None
    why: str
    soft_limits: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    """The names that jobs may reach, or `any`."""

    @property
    def name(self) -> str:
        """Return the driver's name, "" if there is none."""
        return self.driver.name if self.driver else ""


@dataclass(frozen=True, slots=True)
class Ports:
    """What a node is given. It makes all other parts itself, below `config.data_dir`."""

    config: Config
    signer: Signer
    clock: Clock
    journal: Journal
    sandbox: Sandbox
    policy: Policy
    """What the owner allows; its addresses are replaced by those of the network."""
    open_network: OpenNetwork
    stop: trio.Event
    """Set when the API asks the node to stop."""
    gpus: tuple[Gpu, ...] = ()
    """The GPUs of this machine, if the node provides."""
    gpus_why: str = ""
    """Why there are none, or fewer than expected."""
    config_source: ConfigSource | None = None
    """Where `config` can be read again."""


class Node:
    """One node, with its connected parts as attributes. `assemble` makes it."""

    def __init__(
        self, ports: Ports, driver: Driver, receiver: Receiver, network: Network, images: Images
    ) -> None:
        config, journal, clock, blobs = ports.config, ports.journal, ports.clock, images.blobs
        folder, core = config.data_dir, driver.core
        self.ports = ports
        self.core = core
        self.driver = driver
        self.receiver = receiver
        self.network = network
        undelivered = Undelivered(core.signer, clock)
        self.outbox_sender = OutboxSender(network.request, journal, clock, undelivered.missed)
        self.prober = Prober(network, clock, driver)
        self.measurer = Measurer(network, clock, driver)
        self.announcer = Announcer(network, journal)
        self.connector = Connector(network.reach)
        self.upload = Throttle(config.network.upload_mib_s)
        ways = Ways(network.open_stream, network.bulk.call)
        fetcher = BlobFetcher(blobs, ways, network.blame, Throttle(config.network.download_mib_s))
        self._make_provider(images, fetcher)
        # As a requester, for its owner.
        self.results = Results(
            private_dir(folder / "jobs"), blobs, fetcher, network.open_stream, driver
        )
        self.images = ImageService(blobs, images, folder, config.requester.registries)
        self.jobs = JobService(driver, journal, clock, self.images, self.results)
        self.gpus = GpuService(self.gpu_telemetry, self.executions, core, ports.gpus_why)
        self.service = NodeService(
            core, network, journal, clock, self.jobs, undelivered, self.bid_log, self.proofs,
            self.gpus, folder, ports.stop, started_ms=clock.now_ms(), driver=ports.sandbox.name,
            driver_why=ports.sandbox.why,
        )  # fmt: skip
        self.advice = AdviceService(core, journal, clock, self.jobs)
        self.traces = TraceService(core, network, journal, clock, self.bid_log)
        self.owner = OwnerService(
            self.control, self.conditions, core, clock, self.executions, self.reloader
        )
        self.effects = EffectTable(
            Performers(
                network, self.connector, self.announcer, self.outbox_sender, self.prober,
                self.measurer, self.executions, self.bid_log, self.proofs, self.results, self.jobs,
                self.service,
            )
        )  # fmt: skip

    def _make_provider(self, images: Images, fetcher: BlobFetcher) -> None:
        """Make what runs jobs for other peers."""
        ports, driver, core = self.ports, self.driver, self.core
        config, journal, folder = ports.config, ports.journal, ports.config.data_dir
        unpacked, runs = private_dir(folder / "roots"), private_dir(folder / "runs")
        cache = ImageCache(unpacked, images, config.storage.unpacked_mib)
        self.egress_log = EgressLog(folder, ports.clock.now_ms)
        egress = Egress(config.provider, ports.policy.egress, self.egress_log)
        self.context = ExecutionContext(
            images.blobs, images, fetcher, ports.sandbox.driver, runs, cache,
            PreparationMeter(cache.unpacked, lambda: images.blobs.of_kind("image")),
            egress, config.provider.cpu_weight, frozenset(config.provider.registries),
        )  # fmt: skip
        self.executions = Executions(self.context, driver)
        self.gpu_telemetry = GpuTelemetry(ports.gpus, ports.clock.now_ms)
        self.gpu_guard = GpuGuard(self.gpu_telemetry, self.executions, driver)
        self.control = OwnerControl(driver, journal, ports.policy)
        sensors = Sensors(lambda: self.gpu_telemetry.readings, OwnerActivity(), PowerMeter())
        self.conditions = Conditions(config.provider, self.control, core, sensors)
        self.reloader = Reloader(config, ports.config_source, self.control, self.conditions)
        self.bid_log = BidLog(journal)
        self.proofs = Proofs(private_dir(folder / "proofs"))

    @property
    def api(self) -> Service:
        """Return the services behind the API."""
        return Service(
            self.jobs,
            self.images,
            self.service,
            self.advice,
            self.traces,
            self.owner,
            self.gpus,
            EgressService(self.egress_log),
        )

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Recover the state of an earlier run, then run all parts until cancelled."""
        network, ports = self.network, self.ports
        past = await recall(ports.journal, self.context, self.proofs, ports.clock.now_ms())
        self.jobs.recover(past.saved.jobs, past.phases, past.counts)
        await self.service.count()
        await self.bid_log.recover()
        await self.control.recover()
        await self.conditions.check()
        first = self._begin(past)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.context.image_cache.reconcile)
            await nursery.start(self.executions.run)
            await nursery.start(self.results.run)
            await nursery.start(self.outbox_sender.run, past.outbox)
            await nursery.start(self.prober.run)
            await nursery.start(self.measurer.run)
            nursery.start_soon(self.driver.run, self.effects.perform, first)
            nursery.start_soon(self.gpu_telemetry.run)
            nursery.start_soon(self.gpu_guard.run)
            nursery.start_soon(self.conditions.run)
            nursery.start_soon(self.bid_log.run)
            nursery.start_soon(self.egress_log.run)
            nursery.start_soon(self.proofs.run)
            nursery.start_soon(self.announcer.run)
            nursery.start_soon(self.connector.run)
            nursery.start_soon(self.service.run)
            nursery.start_soon(
                look_up_records, self.core, network, self.receiver, ports.clock.now_ms
            )
            nursery.start_soon(log_connectivity, network, ports.config.network.bootstrap)
            task_status.started()

    async def shut_down(self, deliver_s: float = math.inf) -> None:
        """Release all leases, and wait until every peer that answers has been told.

        A job that may save its state is waited for, within its notice; all else takes at most
        `deliver_s` seconds.
        """
        self.control.end()
        await self.driver.take(StopRequested())
        await self.executions.wait_left()
        await self.bid_log.write()
        with trio.move_on_after(deliver_s):
            await self.executions.wait_dropped()
            await self.egress_log.write()
            await self.announcer.wait_published()
            await self.outbox_sender.wait_empty()

    def _begin(self, past: Past) -> Sequence[Effect]:
        """Subscribe and register all handlers; return the effects of the core's recovery."""
        network, ports = self.network, self.ports
        lent = replace(ports.policy, addresses=network.announced())
        context = Context(ports.clock.now_ms(), self.core.signer, lent)
        for topic in topics_of(record_of(context, 1)):
            network.subscribe(topic, self.receiver.judge, self.receiver.screen)
        network.on_request(self.receiver.answer)
        network.on_stream(BLOB_PROTOCOL, BlobServer(self.context.blobs, self.upload).serve)
        ranges = RangeServer(self.context.blobs, network.bulk.serve, self.upload)
        network.on_stream(BULK_PROTOCOL, ranges.serve)
        network.on_stream(LOG_PROTOCOL, LogServer(self.executions.log_of).serve)
        return self.core.recover(past.saved, self.control.begin(lent), context.now_ms)


class _Peers:
    """Reports connected and disconnected peers to the node, and known peers to the network.

    Network and receiver need it before the node exists.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.node: Node | None = None

    def peer_connected(self, peer: PeerId) -> None:
        self._driver.give(PeerConnected(peer, self.source_of(peer)))
        if self.node is not None:
            self.node.outbox_sender.nudge(peer)

    def peer_disconnected(self, peer: PeerId) -> None:
        self._driver.give(PeerDisconnected(peer))

    def is_known(self, peer: PeerId) -> bool:
        return self._driver.core.knows(peer)

    def source_of(self, peer: PeerId) -> str:
        return "unknown" if self.node is None else self.node.network.source_of(peer)


@asynccontextmanager
async def assemble(ports: Ports) -> AsyncIterator[Node]:
    """Assemble a node and join the network, which is left at the end. `Node.run` starts it.

    Raises what `open_network` raises.
    """
    driver = Driver(
        Core(ports.signer, Policy(), refusals_max=REFUSALS_MAX), ports.journal, ports.clock
    )
    peers = _Peers(driver)
    receiver = Receiver(driver, ports.signer, ports.clock, peers)
    images = await _open_content(ports)
    async with ports.open_network(peers, receiver) as network:
        peers.node = Node(ports, driver, receiver, network, images)
        yield peers.node


async def _open_content(ports: Ports) -> Images:
    """Return the images and blobs of this node, reconciled with the disk."""
    folder = private_dir(ports.config.data_dir / "blobs")
    blobs = Blobs(folder, ports.journal, ports.config.storage.blobs_mib)
    await blobs.reconcile()
    images = Images(blobs, folder)
    await images.reconcile()
    return images
