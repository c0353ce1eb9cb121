"""Starts a node, runs it until it is told to stop, and stops it in order.

Spec: specs/core.md#daemon. What one may want to know of the order: nothing is sent before the
journal is open; no call is answered before the sandbox has proved itself; a stopping node first
gives its leases back, then delivers what it has to say, and then leaves the network.
"""

import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from node.config import Config
from node.daemon.effects import NodeEffects, Performers
from node.daemon.policy import policy_of
from node.daemon.recovery import Past, recall
from node.data.blobs import Blobs
from node.data.images import Images
from node.data.transfer import PROTOCOL as BLOB_PROTOCOL
from node.data.transfer import BlobFetcher, BlobServer
from node.driver.clock import Clock
from node.driver.driver import Driver
from node.hardware.inventory import take_inventory
from node.identity import hold_lock, load_or_create, private_dir
from node.messaging.connectivity_log import log_connectivity
from node.messaging.outbox_sender import OutboxSender
from node.messaging.receiver import Receiver
from node.messaging.record_lookup import look_up_records
from node.messaging.undelivered import Undelivered
from node.network.host import Network, open_network
from node.network.interface import NetworkConfig, Tuning
from node.provider.execution_context import ExecutionContext
from node.provider.executions import Executions
from node.provider.image_cache import ImageCache
from node.provider.log_server import PROTOCOL as LOG_PROTOCOL
from node.provider.log_server import LogServer
from node.requester.results import Results
from node.rpc.server import serve_api
from node.rpc.service import Service
from node.sandbox.choice import choose_driver
from node.sandbox.driver import Driver as SandboxDriver
from node.sandbox.policy import name_of
from node.sdnotify import READY, STOPPING, feed_watchdog, notify
from node.service.images import ImageService
from node.service.jobs import JobService
from node.service.node import NodeService
from node.storage.journal import Journal, open_journal
from node.telemetry import logging_to
from protocol.core.core import Core
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Effect
from protocol.machines.inputs import PeerConnected, PeerDisconnected, StopRequested
from protocol.rules.topics import topics_of
from protocol.values.errors import InvalidRequest, NodeError, SandboxUnavailable
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signer

LOG: Final = logging.getLogger(__name__)
SANDBOX_FACT: Final = "sandbox"
SOFT_MEMORY: Final = (
    "the memory of jobs is only watched here: one that takes it fast may have more than "
    "its own for a moment; a control group of its own makes the limit hard: "
    "systemd-run --user --scope -p Delegate=yes mutirao up"
)
GOODBYE_S: Final = 1.5
"""How long a stopping node tries to deliver what it has to say."""


def run_daemon(config: Config) -> int:
    """Run a node until it is told to stop; return the exit code of the process.

    Raises the NodeError that kept it from starting or going on.
    """
    if not __debug__:  # An assertion would be left out just when it is needed.
        raise InvalidRequest("the node's assertions are part of it: run it without python -O")
    os.umask(0o022)  # Jobs run as another user and read what we unpack; our folders are 0700.
    failure: NodeError | None = None
    with logging_to(level=config.log_level, log_format=config.log_format):
        try:
            trio.run(_run, config)
        except* NodeError as group:
            failure = _first(group)
    if failure is not None:
        raise failure
    return 0


async def _run(config: Config) -> None:
    folder = private_dir(config.data_dir)
    with hold_lock(folder / "lock"):
        seed = load_or_create(folder / "identity.key")
        clock = Clock()
        async with open_journal(folder / "node.db", clock.now_ms) as journal:
            core = Core(Signer(seed, config.network.name), Policy())
            node = Node(config, core, Driver(core, journal, clock), journal, clock)
            await node.run(seed)


@dataclass(frozen=True, slots=True)
class _Sandbox:
    driver: SandboxDriver | None
    why: str
    soft_limits: tuple[str, ...] = ()


class Node:
    """One running node."""

    def __init__(
        self, config: Config, core: Core, driver: Driver, journal: Journal, clock: Clock
    ) -> None:
        self._config = config
        self._core = core
        self._driver = driver
        self._journal = journal
        self._clock = clock
        self._door = Receiver(driver, core.signer, clock, self)
        self._stop = trio.Event()
        self._nudge: Callable[[PeerId], None] = _ignore
        self._network: Network | None = None

    def peer_connected(self, peer: PeerId) -> None:
        self._driver.give(PeerConnected(peer, self.source_of(peer)))
        self._nudge(peer)

    def peer_disconnected(self, peer: PeerId) -> None:
        self._driver.give(PeerDisconnected(peer))

    def is_known(self, peer: PeerId) -> bool:
        return self._core.knows(peer)

    def source_of(self, peer: PeerId) -> str:
        return "unknown" if self._network is None else self._network.source_of(peer)

    async def run(self, seed: bytes) -> None:
        """Start everything, wait until told to stop, and stop everything."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._listen_for_signals, nursery.cancel_scope)
            blobs, images = await self._open_data()
            sandbox = await self._open_sandbox()
            settings = self._config.network
            network_config = NetworkConfig(
                settings.listen, settings.bootstrap, settings.name, settings.announce
            )
            tuning = Tuning(connections_per_source_max=settings.connections_per_source)
            async with open_network(network_config, seed, self, self._door, tuning) as network:
                await self._serve(network, blobs, images, sandbox)
            if sandbox.driver is not None:
                await self._tidy(sandbox.driver)
            nursery.cancel_scope.cancel()

    async def _open_data(self) -> tuple[Blobs, Images]:
        folder = private_dir(self._config.data_dir / "blobs")
        blobs = Blobs(folder, self._journal, self._config.storage.blobs_mib)
        await blobs.reconcile()
        images = Images(blobs, folder)
        await images.reconcile()
        return blobs, images

    async def _open_sandbox(self) -> _Sandbox:
        """Find a sandbox that proves itself; a node without one only submits jobs."""
        if not self._config.provider.enabled:
            return _Sandbox(None, "this node does not provide (provider.enabled)")
        runs = private_dir(self._config.data_dir / "runs")
        try:
            room_mib = self._config.storage.unpacked_mib
            choice = await choose_driver(self._config.provider.sandbox, runs, room_mib)
        except SandboxUnavailable as error:
            LOG.warning("this node only submits jobs: %s", error)
            return _Sandbox(None, str(error))
        await self._say_change(choice.driver.name)
        soft = f"; soft limits: {', '.join(choice.soft_limits)}" if choice.soft_limits else ""
        return _Sandbox(choice.driver, choice.why + soft, choice.soft_limits)

    async def _say_change(self, name: str) -> None:
        """Warn of a sandbox that is not the one of this node's last run, and remember it."""
        before = (await self._journal.fact(SANDBOX_FACT) or b"").decode()
        if before == name:
            return
        if before:
            LOG.warning("the sandbox is %s now and was %s before: provider.sandbox pins one",
                        name, before)  # fmt: skip
        await self._journal.set_fact(SANDBOX_FACT, name.encode())

    async def _serve(
        self, network: Network, blobs: Blobs, images: Images, sandbox: _Sandbox
    ) -> None:
        folder = self._config.data_dir
        fetcher = BlobFetcher(blobs, network.open_stream, network.blame)
        roots = ImageCache(private_dir(folder / "roots"), images, self._config.storage.unpacked_mib)
        runs = private_dir(folder / "runs")
        shop = ExecutionContext(blobs, images, fetcher, sandbox.driver, runs, roots)
        executions = Executions(shop, self._driver)
        results = Results(
            private_dir(folder / "jobs"), blobs, fetcher, network.open_stream, self._driver
        )
        undelivered = Undelivered(self._core.signer, self._clock)
        postman = OutboxSender(network.request, self._journal, self._clock, undelivered.missed)
        self._nudge = postman.nudge
        self._network = network
        past = await recall(self._journal, shop, self._clock.now_ms())
        images_service = ImageService(blobs, images, folder)
        jobs = JobService(self._driver, self._journal, self._clock, images_service, results)
        jobs.recover(past.saved.jobs, past.phases, past.counts)
        node = await self._node_service(network, sandbox, jobs, undelivered)
        performers = Performers(network, self._journal, postman, executions, results, jobs, node)
        ports = NodeEffects(performers)
        first = await self._begin(network, sandbox, past)
        network.on_request(self._door.answer)
        network.on_stream(BLOB_PROTOCOL, BlobServer(blobs).serve)
        network.on_stream(LOG_PROTOCOL, LogServer(executions.log_of).serve)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(roots.reconcile)
            await nursery.start(executions.run)
            await nursery.start(results.run)
            await nursery.start(postman.run, past.outbox)
            nursery.start_soon(self._driver.run, ports, first)
            nursery.start_soon(ports.publish)
            nursery.start_soon(ports.reach)
            nursery.start_soon(ports.advertise)
            nursery.start_soon(ports.count)
            nursery.start_soon(look_up_records, self._core, network, self._door, self._clock.now_ms)
            nursery.start_soon(log_connectivity, network, self._config.network.bootstrap)
            nursery.start_soon(feed_watchdog)
            await nursery.start(serve_api, Service(jobs, images_service, node), self._config.socket)
            self._say_ready(network, sandbox)
            await self._stop.wait()
            await self._say_goodbye(postman, executions, ports)
            nursery.cancel_scope.cancel()

    async def _node_service(
        self, network: Network, sandbox: _Sandbox, jobs: JobService, undelivered: Undelivered
    ) -> NodeService:
        return NodeService(
            self._core, network, self._clock, jobs, undelivered, self._config.data_dir, self._stop,
            started_ms=self._clock.now_ms(), totals=await self._journal.totals(),
            driver=sandbox.driver.name if sandbox.driver else "", driver_why=sandbox.why,
        )  # fmt: skip

    async def _begin(self, network: Network, sandbox: _Sandbox, past: Past) -> Sequence[Effect]:
        """Say what this node offers, and go on with what an earlier run left."""
        driver = sandbox.driver
        inventory = await trio.to_thread.run_sync(take_inventory, self._config.data_dir)
        name, isolation = (driver.name, driver.isolation) if driver else ("", 1)
        policy = replace(
            policy_of(self._config, inventory, name, isolation),
            addresses=network.announced(),
            soft_limits=sandbox.soft_limits,
        )
        context = Context(self._clock.now_ms(), self._core.signer, policy)
        for topic in topics_of(record_of(context, 1)):
            network.subscribe(topic, self._door.judge, self._door.screen)
        return self._core.recover(past.saved, policy, context.now_ms)

    def _say_ready(self, network: Network, sandbox: _Sandbox) -> None:
        notify(READY)
        LOG.info("ready: %s", network.peer_id)
        for address in network.addresses():
            LOG.info("listening on %s", address)
        name = sandbox.driver.name if sandbox.driver else "none"
        LOG.info("sandbox: %s (%s)", name, sandbox.why)
        if "memory" in sandbox.soft_limits:
            LOG.warning(SOFT_MEMORY)

    async def _say_goodbye(
        self, postman: OutboxSender, executions: Executions, ports: NodeEffects
    ) -> None:
        notify(STOPPING)
        LOG.info("stopping")
        with trio.move_on_after(GOODBYE_S):
            await self._driver.take(StopRequested())
            await executions.wait_dropped()
            await ports.wait_published()
            await postman.wait_empty()

    async def _tidy(self, driver: SandboxDriver) -> None:
        """Leave nothing behind but the containers of leases that could not be given back."""
        leases = self._core.status(self._clock.now_ms()).leases_provided
        kept = frozenset(map(name_of, leases))
        with trio.move_on_after(GOODBYE_S):
            try:
                await driver.reap(kept)
            except SandboxUnavailable as error:  # The next start tries again.
                LOG.warning("something of this run stays: %s", error)

    async def _listen_for_signals(
        self,
        everything: trio.CancelScope,
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self._stop.is_set():  # The second time somebody means it.
                    everything.cancel()
                LOG.info("%s", signal.Signals(number).name)
                self._stop.set()


def _ignore(_peer: PeerId) -> None:
    return


def _first(group: BaseExceptionGroup[NodeError]) -> NodeError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, NodeError)
    return found
