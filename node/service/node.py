"""The node as its owner sees it: status, peers, known offers, and the request to stop.

Spec: specs/rpc.md#service.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import trio

from node import VERSION
from node.driver.clock import Clock
from node.messaging.undelivered import Undelivered
from node.network.host import Network
from node.provider.bid_log import BidLog
from node.provider.proofs import Proofs
from node.rpc.views import (
    AnsweredCallView,
    OfferView,
    PaidPriceView,
    PeerView,
    ProviderView,
    StatusView,
    TrafficView,
)
from node.service.bids import answered_call_view
from node.service.gpus import GpuService
from node.service.jobs import JobService
from node.service.offers import gpu_views, offer_view, resources_view, select
from node.service.prices import paid_price_view, sale_of_call, sales_of_jobs
from node.storage.journal import Journal, Totals
from protocol.core.core import Core, Status
from protocol.machines.effects import Settle
from protocol.rules.paid_prices import paid_prices
from protocol.rules.query_fields import Subject, subjects_of
from protocol.values.ids import PeerId
from protocol.values.units import credits_of_nano
from protocol.wire.messages import CapabilityRecord

NOTHING: Final = Totals(0, 0)
CALLS_PRICED: Final = 1_000
"""The newest answered calls whose prices count as paid lately."""


@dataclass(slots=True)
class NodeService:
    """Implements node.rpc.service.NodeApi."""

    core: Core
    network: Network
    journal: Journal
    clock: Clock
    jobs: JobService
    undelivered: Undelivered
    bid_log: BidLog
    proofs: Proofs
    gpus: GpuService
    data_dir: Path
    stop: trio.Event
    """Set when the node is asked to stop."""
    started_ms: int
    driver: str
    """The name of the sandbox, "" if none works."""
    driver_why: str
    """Why the node uses this sandbox, or none."""
    totals: Totals = NOTHING
    """The sums of all receipts."""
    _settled: trio.Event = field(default_factory=trio.Event)

    def status(self) -> StatusView:
        network, core = self.network, self.core.status(self.clock.now_ms())
        return StatusView(
            peer_id=network.peer_id,
            version=VERSION,
            addresses=network.addresses(),
            peers=len(network.peers()),
            uptime_ms=self.clock.now_ms() - self.started_ms,
            jobs=self.jobs.counts(),
            earned=credits_of_nano(self.totals.earned),
            spent=credits_of_nano(self.totals.spent),
            provider=self._provider(core),
            data_dir=str(self.data_dir),
            illegal=dict(core.illegal),
            traffic=TrafficView(**asdict(network.traffic())),
        )

    def peers(self) -> tuple[PeerView, ...]:
        return tuple(
            PeerView(peer.peer_id, peer.address, f"{peer.direction}bound", peer.connected_ms)
            for peer in self.network.peers()
        )

    def offers(self, where: str, sort: str, limit: int | None) -> tuple[OfferView, ...]:
        now_ms = self.clock.now_ms()
        status = self.core.status(now_ms)
        known = [self._kinds(item.peer, item.record, now_ms) for item in status.listings]
        own = self.network.peer_id
        if status.record is not None:
            known.insert(0, self._kinds(own, status.record, now_ms))
        if where or sort or limit:
            found = select(known, where, sort)[:limit]
        else:
            found = [kinds[0] for kinds in known]
        return tuple(offer_view(one, status.free if one.peer == own else None) for one in found)

    def _kinds(self, peer: PeerId, record: CapabilityRecord, now_ms: int) -> tuple[Subject, ...]:
        settled = self.core.standings.of(peer).settled
        connected = peer in self.core.connected
        return tuple(subjects_of(peer, record, now_ms, settled=settled, connected=connected))

    async def bids(self, limit: int) -> tuple[AnsweredCallView, ...]:
        return tuple(map(answered_call_view, await self.bid_log.newest(limit)))

    async def prices(self) -> tuple[PaidPriceView, ...]:
        seen = [
            sale_of_call(answered, self.network.peer_id, self._record_of)
            for answered in await self.bid_log.newest(CALLS_PRICED)
        ]
        paid = await sales_of_jobs(self.journal, self._record_of)
        return tuple(map(paid_price_view, paid_prices([*paid, *filter(None, seen)])))

    def _record_of(self, peer: PeerId) -> CapabilityRecord | None:
        if peer == self.network.peer_id:
            return self.core.presence.record
        return self.core.record_of(peer, self.clock.now_ms())

    def request_stop(self) -> None:
        self.stop.set()

    def settled(self, _receipt: Settle) -> None:
        """Record that there is a new receipt."""
        self._settled.set()

    async def count(self) -> None:
        """Update the sums of all receipts."""
        self.totals = await self.journal.totals()

    async def run(self) -> None:
        """Keep the sums up to date, until cancelled."""
        while True:
            await self._settled.wait()
            self._settled = trio.Event()
            await self.count()

    def _provider(self, status: Status) -> ProviderView:
        capacity = status.policy.capacity
        return ProviderView(
            enabled=status.policy.providing or bool(status.policy.closed),
            paused=bool(status.policy.closed),
            driver=self.driver or None,
            why=self.driver_why,
            total=resources_view(capacity),
            free=resources_view(status.free),
            gpus=gpu_views(capacity),
            bids_undelivered=self.undelivered.bids,
            proofs=self.proofs.count,
            gpu_troubles=self.gpus.troubles(),
            closed=status.policy.closed,
        )
