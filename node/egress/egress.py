"""What jobs of this node may reach: checks a job's names, and runs its proxy while it runs.

Spec: specs/egress.md.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import trio

from node.config import ProviderSettings
from node.data.throttle import Throttle
from node.egress.addresses import Resolver
from node.egress.log import EgressLog
from node.egress.proxy import ALL_CONNECTIONS_MAX, Proxy, Rules
from node.sandbox.driver import SandboxDriver
from protocol.machines.effects import Launch
from protocol.values.egress import ANY, expanded, refused
from protocol.values.errors import SandboxUnavailable
from protocol.wire.job import Workload

LOG: Final = logging.getLogger(__name__)
MIB: Final = 1024**2


def names_of(settings: ProviderSettings) -> tuple[str, ...]:
    """Return the names that the owner lets jobs reach, or `any`."""
    allowed = {"none": (), "listed": expanded(settings.egress_names), ANY: (ANY,)}
    return allowed[settings.egress]


class Egress:
    """The proxies of this node's jobs."""

    def __init__(self, settings: ProviderSettings, names: tuple[str, ...], log: EgressLog) -> None:
        """Take the owner's settings, and the names that jobs may reach here."""
        self.log = log
        self._rules = Rules(
            names,
            settings.egress_ports,
            tuple(ip_network(text) for text in settings.egress_networks),
            settings.egress_mib * MIB,
        )
        self._throttle = Throttle(settings.egress_mib_s)
        self._resolver = Resolver()
        self._places = trio.Semaphore(ALL_CONNECTIONS_MAX)

    def require(self, workload: Workload) -> None:
        """Raise SandboxUnavailable if the owner does not allow all names of a job."""
        if names := refused(self._rules.names, workload.egress):
            line = f"the owner of this node does not let jobs reach {', '.join(names)}"
            raise SandboxUnavailable(line)

    @asynccontextmanager
    async def serving(
        self, launch: Launch, sandbox: SandboxDriver, folder: Path
    ) -> AsyncIterator[None]:
        """Run the proxy of a container, if its job has one, while the block runs."""
        workload = launch.workload
        async with trio.open_nursery() as nursery:
            if workload.egress:
                try:
                    listener = await sandbox.proxy_listener(folder)
                except SandboxUnavailable as error:  # It has ended already.
                    LOG.info("no proxy for lease %s: %s", launch.lease_id.hex()[:12], error)
                else:
                    nursery.start_soon(self._proxy(launch).serve, listener)
            yield
            nursery.cancel_scope.cancel()

    def _proxy(self, launch: Launch) -> Proxy:
        note = partial(self.log.note, launch.lease_id, launch.requester)
        names = launch.workload.egress
        find, places = self._resolver.find, self._places
        return Proxy(names, self._rules, self._throttle, note, find, places)
