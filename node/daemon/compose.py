"""Starts a node, runs it until it is told to stop, and stops it in order.

Spec: specs/core.md#daemon. The order matters: nothing is sent before the journal is open; no call
is answered before the sandbox has passed its self-test; a stopping node first releases its leases,
then delivers its last messages, and then leaves the network.
"""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import trio

from node.config import Config
from node.daemon.assemble import Node, Ports, Sandbox, assemble
from node.daemon.policy import policy_of
from node.driver.clock import Clock
from node.egress.egress import names_of
from node.hardware.inventory import Inventory, take_inventory
from node.identity import hold_lock, load_or_create, private_dir
from node.network.host import Network, open_network
from node.network.interface import NetworkConfig, PeerEvents, RecordRule, Tuning
from node.owner.reloading import ConfigSource
from node.rpc.server import serve_api
from node.sandbox.choice import choose_driver
from node.sandbox.driver import SandboxDriver, name_of
from node.sdnotify import READY, STOPPING, feed_watchdog, notify
from node.storage.journal import Journal, open_journal
from node.telemetry import logging_to
from protocol.machines.context import Policy
from protocol.rules.pricing import floor_percent_of
from protocol.values.errors import InvalidRequest, NodeError, SandboxUnavailable
from protocol.wire.envelope import KeySigner, Signer

LOG: Final = logging.getLogger(__name__)
SANDBOX_FACT: Final = "sandbox"
SOFT_MEMORY: Final = (
    "the memory of jobs is only watched here: a job that allocates fast can exceed its limit for "
    "a moment; run the node in a control group of its own to make the limit hard: "
    "systemd-run --user --scope -p Delegate=yes mutirao up"
)
SHUTDOWN_S: Final = 1.5
"""How long a stopping node tries to deliver its last messages."""


def run_daemon(config: Config, read: Callable[[], Config] | None = None) -> int:
    """Run a node until it is told to stop; return the exit code of the process.

    `read` returns the configuration as it is then, if it can be read again. Raises the NodeError
    that prevented its start or ended it.
    """
    if not __debug__:  # Python would skip every assertion.
        raise InvalidRequest("the node needs its assertions: run it without python -O")
    os.umask(0o022)  # Jobs run as another user and read what we unpack; our folders are 0700.
    failure: NodeError | None = None
    with logging_to(level=config.log_level, log_format=config.log_format):
        try:
            trio.run(_run, config, read)
        except* NodeError as group:
            failure = _first(group)
    if failure is not None:
        raise failure
    return 0


async def _run(config: Config, read: Callable[[], Config] | None = None) -> None:
    folder = private_dir(config.data_dir)
    with hold_lock(folder / "lock"):
        seed = load_or_create(folder / "identity.key")
        clock = Clock()
        async with (
            open_journal(folder / "node.db", clock.now_ms) as journal,
            trio.open_nursery() as nursery,
        ):
            stop = trio.Event()
            await nursery.start(_listen_for_signals, stop, nursery.cancel_scope)
            sandbox = await _open_sandbox(config, journal)
            signer = KeySigner(seed, config.network.name)
            inventory = await trio.to_thread.run_sync(take_inventory, config.data_dir)
            means = partial(_policy, inventory, sandbox, signer)
            policy = means(config)
            source = ConfigSource(read, means) if read else None
            gpus = inventory.gpus if policy.providing else ()
            opener = partial(_open_network, config, seed)
            ports = Ports(config, signer, clock, journal, sandbox, policy, opener, stop, gpus,
                          inventory.gpus_why, source)  # fmt: skip
            async with assemble(ports) as node:
                await _run_until_stopped(node)
            if sandbox.driver is not None:
                await _tidy(sandbox.driver, node)
            nursery.cancel_scope.cancel()


async def _open_sandbox(config: Config, journal: Journal) -> Sandbox:
    """Choose a sandbox that passes its self-test; a node without one only submits jobs."""
    if not config.provider.enabled:
        return Sandbox(None, "this node does not provide (provider.enabled)")
    runs = private_dir(config.data_dir / "runs")
    try:
        choice = await choose_driver(config.provider.sandbox, runs, config.storage.unpacked_mib)
    except SandboxUnavailable as error:
        LOG.warning("this node only submits jobs: %s", error)
        return Sandbox(None, str(error))
    await _say_change(choice.driver.name, journal)
    soft = f"; soft limits: {', '.join(choice.soft_limits)}" if choice.soft_limits else ""
    egress = await _egress(config, choice.driver)
    return Sandbox(choice.driver, choice.why + soft, choice.soft_limits, egress)


async def _say_change(name: str, journal: Journal) -> None:
    """Warn if the sandbox is not the one of this node's last run; record it for the next."""
    before = (await journal.fact(SANDBOX_FACT) or b"").decode()
    if before == name:
        return
    if before:
        LOG.warning("the sandbox is %s now and was %s before: provider.sandbox pins one",
                    name, before)  # fmt: skip
    await journal.set_fact(SANDBOX_FACT, name.encode())


def _policy(inventory: Inventory, sandbox: Sandbox, signer: Signer, config: Config) -> Policy:
    """Return what this node offers on this machine."""
    isolation = sandbox.driver.isolation if sandbox.driver else 1
    drawn = floor_percent_of(signer.secret(b"floor", b""))
    policy = policy_of(config, inventory, sandbox.name, isolation, drawn)
    egress = sandbox.egress if policy.providing else ()
    return replace(policy, soft_limits=sandbox.soft_limits, egress=egress)


async def _egress(config: Config, driver: SandboxDriver) -> tuple[str, ...]:
    """Return the names that jobs may reach; none if the sandbox cannot connect a job."""
    names = names_of(config.provider)
    if not names:
        return ()
    if why := await driver.check_egress():
        LOG.warning("jobs cannot reach the network here: %s", why)
        return ()
    LOG.info("jobs may reach %s", ", ".join(names))
    return names


def _open_network(
    config: Config, seed: bytes, events: PeerEvents, records: RecordRule
) -> AbstractAsyncContextManager[Network]:
    wanted = config.network
    network = NetworkConfig(wanted.listen, wanted.bootstrap, wanted.name, wanted.announce)
    tuning = Tuning(connections_per_source_max=wanted.connections_per_source)
    return open_network(network, seed, events, records, tuning)


async def _run_until_stopped(node: Node) -> None:
    """Run a node and its API until it is told to stop; then stop it in order."""
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(feed_watchdog)
        await nursery.start(_listen_for_hangups, node)
        await nursery.start(serve_api, node.api, node.ports.config.socket)
        _say_ready(node)
        await node.ports.stop.wait()
        notify(STOPPING)
        LOG.info("stopping")
        await node.shut_down(SHUTDOWN_S)
        nursery.cancel_scope.cancel()


def _say_ready(node: Node) -> None:
    network, sandbox = node.network, node.ports.sandbox
    notify(READY)
    LOG.info("ready: %s", network.peer_id)
    for address in network.addresses():
        LOG.info("listening on %s", address)
    LOG.info("sandbox: %s (%s)", sandbox.name or "none", sandbox.why)
    if "memory" in sandbox.soft_limits:
        LOG.warning(SOFT_MEMORY)


async def _tidy(driver: SandboxDriver, node: Node) -> None:
    """Remove all containers except those of leases that could not be released."""
    status = node.core.status(node.ports.clock.now_ms())
    kept = frozenset(map(name_of, status.leases_provided))
    with trio.move_on_after(SHUTDOWN_S):
        try:
            await driver.reap(kept)
        except SandboxUnavailable as error:  # The next start tries again.
            LOG.warning("some containers of this run remain: %s", error)


async def _listen_for_signals(
    stop: trio.Event,
    everything: trio.CancelScope,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():  # A second signal ends the process at once.
                everything.cancel()
            LOG.info("%s", signal.Signals(number).name)
            stop.set()


async def _listen_for_hangups(node: Node, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Read the configuration again on SIGHUP; stop if it means that the terminal was closed."""
    has_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            if has_terminal and not _has_terminal():
                LOG.info("the terminal was closed")
                node.ports.stop.set()
            else:
                await node.reloader.reload_and_log()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _first(group: BaseExceptionGroup[NodeError]) -> NodeError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, NodeError)
    return found
