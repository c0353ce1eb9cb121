"""Transfers of images, inputs, outputs and checkpoints between simulated nodes.

A transfer takes the time of its bytes on the line. If a side goes, it begins again when both are
there. Spec: specs/simulation.md#transfers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from node.simulator.engine import TICKS_PER_MS
from node.simulator.node import SimulatedNode
from node.simulator.outboxes import StreamPaths
from protocol.machines import effects, inputs
from protocol.values.ids import LeaseId, PeerId
from protocol.values.limits import STALL_MS

RETRY_MS: Final = 2_000
TRIES: Final = 300
"""How often a transfer from a node that is away is tried again before it is given up."""
PROGRESS_TICKS: Final = STALL_MS * TICKS_PER_MS // 4
"""A longer transfer tells its progress so often: one that is silent for STALL_MS is given up."""


class TransferNetwork(Protocol):
    """What transfers need of the network that they are in."""

    links: StreamPaths

    def peer(self, peer: PeerId) -> SimulatedNode | None:
        """Return a node by its id; None if it has gone and did nothing before."""

    def give(self, node: SimulatedNode, event: inputs.Input) -> None:
        """Give a node an input."""

    def process(self, node: SimulatedNode, call: Callable[..., object], *arguments: Any) -> None:
        """Call something when a node has processed it, unless it has gone meanwhile."""

    def at(
        self, ticks: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        """Call something so many ticks from now, unless the node has gone meanwhile."""


@dataclass(frozen=True, slots=True)
class _Transfer:
    source: PeerId
    size: int
    there: inputs.Input
    lost: inputs.Input
    lease_id: LeaseId | None = None
    """The lease whose preparation tells its progress."""
    image: bytes = b""
    """The image that is then on the disk."""
    tries: int = TRIES


class Transfers:
    """Performs the effects that fetch something."""

    def __init__(self, network: TransferNetwork) -> None:
        self._network = network

    def prepare(self, node: SimulatedNode, effect: effects.Prepare) -> None:
        """Fetch image and inputs of a lease; an image that is there is not fetched again."""
        lease_id, workload = effect.lease_id, effect.workload
        size = sum(each.blob.size for each in workload.inputs)
        size += 0 if workload.image in node.disk.images else workload.image_bytes
        failed = inputs.PrepareFailed(lease_id, "the requester is away")
        there = inputs.Prepared(lease_id)
        wanted = _Transfer(effect.requester, size, there, failed, lease_id, workload.image)
        self._begin(node, wanted)

    def fetch_outputs(self, node: SimulatedNode, effect: effects.FetchOutputs) -> None:
        """Fetch log and outputs of a lease."""
        lost = inputs.OutputsLost(effect.lease_id, "the provider is away")
        there = inputs.OutputsFetched(effect.lease_id)
        self._begin(node, _Transfer(effect.provider, effect.outputs.size, there, lost))

    def fetch_checkpoint(self, node: SimulatedNode, effect: effects.FetchCheckpoint) -> None:
        """Fetch a checkpoint of a lease."""
        lease_id, sequence = effect.lease_id, effect.checkpoint.sequence
        lost = inputs.CheckpointLost(lease_id, sequence)
        there = inputs.CheckpointFetched(lease_id, sequence)
        self._begin(node, _Transfer(effect.provider, effect.checkpoint.size, there, lost))

    def _begin(self, node: SimulatedNode, wanted: _Transfer) -> None:
        source = self._network.peer(wanted.source)
        if source is None or not source.online:
            self._begin_again(node, wanted)
            return
        ticks = self._network.links.transfer(source.number, node.number, wanted.size)
        if wanted.lease_id is not None:
            for tick in range(PROGRESS_TICKS, ticks, PROGRESS_TICKS):
                done = wanted.size * tick // ticks
                told = inputs.FetchProgressed(wanted.lease_id, done, wanted.size)
                self._network.at(tick, node, self._tell, node, source, source.generation, told)
        self._network.at(ticks, node, self._end, node, wanted, source, source.generation)

    def _tell(
        self, node: SimulatedNode, source: SimulatedNode, generation: int, told: inputs.Input
    ) -> None:
        if source.generation == generation:
            self._network.give(node, told)

    def _end(
        self, node: SimulatedNode, wanted: _Transfer, source: SimulatedNode, generation: int
    ) -> None:
        """Give a node what it fetched, unless its source has gone meanwhile."""
        if source.generation != generation:
            self._begin_again(node, wanted)
            return
        if wanted.image:
            node.disk.images.add(wanted.image)
        self._network.process(node, self._network.give, node, wanted.there)

    def _begin_again(self, node: SimulatedNode, wanted: _Transfer) -> None:
        if not wanted.tries:
            self._network.give(node, wanted.lost)
            return
        again = replace(wanted, tries=wanted.tries - 1)
        self._network.at(RETRY_MS * TICKS_PER_MS, node, self._begin, node, again)
