"""Nodes of one owner that act together: Sybil identities, shills, and those that eclipse users.

In each run a kind unites its nodes, so that they share what they know, or one machine.
Spec: specs/simulation-world.md#adversaries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Final

from node.simulator.containers import work_of
from node.simulator.world.adversaries import (
    USERS,
    Adversaries,
    AnyCore,
    Conspiracy,
    Deviation,
    never_less,
)
from node.simulator.world.idling import Lasting
from node.simulator.world.quantities import Meaning
from protocol.core.core import Core
from protocol.machines import effects, inputs
from protocol.machines.context import Policy
from protocol.machines.effects import Effect
from protocol.machines.inputs import Input
from protocol.rules.capacity import left_of
from protocol.rules.pricing import load_of
from protocol.values.ids import LeaseId, PeerId
from protocol.values.units import PPM
from protocol.wire.envelope import Signed
from protocol.wire.job import Resources
from protocol.wire.messages import BidReveal, Call, Prices

# --- Sybil --------------------------------------------------------------------------------


@dataclass(slots=True)
class SharedMachine:
    """What all identities of one owner sell: so many jobs at a time, so much slower is each."""

    loads: dict[LeaseId, tuple[PeerId, int]] = field(default_factory=dict)
    """The identity and the share of the machine, in millionths, of each job that runs."""

    def begin(self, lease_id: LeaseId, owner: PeerId, share: int) -> int:
        """Take a job; return how slow it is, in millionths of its speed alone."""
        self.loads[lease_id] = owner, share
        return max(PPM, sum(load for _, load in self.loads.values()))

    def end(self, lease_id: LeaseId) -> None:
        """Forget a job."""
        self.loads.pop(lease_id, None)

    def forget(self, owner: PeerId) -> None:
        """Forget the jobs of an identity that begins anew."""
        self.loads = {key: load for key, load in self.loads.items() if load[0] != owner}


class _Sharing(Lasting):
    """Runs its jobs on a machine that others sell, too."""

    def __init__(self, core: Core, machine: SharedMachine) -> None:
        super().__init__(core)
        self._machine = machine
        machine.forget(core.signer.peer_id)

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        if isinstance(event, inputs.ContainerExited | inputs.ContainerFailed):
            self._machine.end(event.lease_id)
        return super().handle(event, now_ms)

    def lasts_ms(self, launch: effects.Launch) -> int:
        total = self.core.policy.capacity
        share = load_of(total, left_of(total, [launch.reservation]))
        slow = self._machine.begin(launch.lease_id, self.signer.peer_id, share)
        return work_of(launch.workload) * slow // PPM


@dataclass(frozen=True, slots=True)
class Sybil(Adversaries):
    """Lenders of which many have one owner, who sells one machine under all their names."""

    identities: Annotated[int, Meaning("how many names each owner has", 1)] = 10
    machines: dict[PeerId, SharedMachine] = field(default_factory=dict)

    def unite(self, group: Conspiracy) -> "Sybil":
        owners = [SharedMachine() for _ in range(0, len(group.chosen), self.identities)]
        machines = {
            peer: owners[place // self.identities] for place, peer in enumerate(group.chosen)
        }
        return replace(self, machines=machines)

    def corrupt(self, core: Core) -> AnyCore:
        return _Sharing(core, self.machines[core.signer.peer_id])


# --- shills -------------------------------------------------------------------------------


@dataclass(slots=True)
class Memory:
    """What a user and its own bidder know: the lowest ask of others, by what was asked for."""

    lowest: dict[Resources, int] = field(default_factory=dict)
    asked: dict[Resources, bytes] = field(default_factory=dict)
    """The call in which it was asked."""

    def note(self, resources: Resources, call_id: bytes, ask: int) -> None:
        """Note an ask of another bidder; those of earlier calls are forgotten."""
        same = self.asked.get(resources) == call_id
        self.lowest[resources] = min(ask, self.lowest[resources]) if same else ask
        self.asked[resources] = call_id


class _Remembering(Deviation):
    """A user that tells its own bidder what others ask."""

    def __init__(self, core: Core, memory: Memory, bidder: PeerId) -> None:
        super().__init__(core)
        self._memory = memory
        self._bidder = bidder

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        if isinstance(event, Signed) and event.signer != self._bidder:
            self._read(event.message)
        return super().handle(event, now_ms)

    def _read(self, message: object) -> None:
        if isinstance(message, BidReveal):
            job_class = self.core.requester.scheduler.auctions.class_of(message.call_id)
            if job_class is not None:
                self._memory.note(job_class.call.resources, message.call_id, message.bid.ask)


class _Shilling(Deviation):
    """A lender that asks its owner's calls for a little more than the cheapest did before."""

    def __init__(self, core: Core, memory: Memory, owner: PeerId) -> None:
        super().__init__(core)
        self._memory = memory
        self._owner = owner
        self._honest = core.policy

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        if isinstance(event, Signed) and isinstance(event.message, Call):
            self.core.policy = self._policy(event.signer, event.message.resources)
        return super().handle(event, now_ms)

    def _policy(self, caller: PeerId, wanted: Resources) -> Policy:
        lowest = self._memory.lowest.get(wanted)
        if caller != self._owner or lowest is None:
            return self._honest
        units = wanted.gpus or wanted.cpus
        rate = lowest // max(1, units) + 1
        prices = Prices(0, 0, rate) if wanted.gpus else Prices(rate, 0, 0)
        return replace(self._honest, prices=prices, floor_percent=100)


@dataclass(frozen=True, slots=True)
class Shill(Adversaries):
    """Users that each own a lender, which bids just above the asks that they have seen."""

    who: ClassVar[str] = USERS
    owners: dict[PeerId, PeerId] = field(default_factory=dict)
    bidders: dict[PeerId, PeerId] = field(default_factory=dict)
    memories: dict[PeerId, Memory] = field(default_factory=dict)

    def helpers(self, chosen: int) -> int:
        return chosen

    def unite(self, group: Conspiracy) -> "Shill":
        pairs = tuple(zip(group.chosen, group.helpers, strict=False))
        owners = {bidder: user for user, bidder in pairs}
        memories = {user: Memory() for user in group.chosen}
        return replace(self, owners=owners, bidders=dict(pairs), memories=memories)

    def corrupt(self, core: Core) -> AnyCore:
        peer = core.signer.peer_id
        if peer in self.owners:
            owner = self.owners[peer]
            return _Shilling(core, self.memories[owner], owner)
        return _Remembering(core, self.memories[peer], self.bidders.get(peer, PeerId("")))


# --- eclipse ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Eclipse(Adversaries):
    """Lenders that have taken all connections of some users, and ask them their list prices."""

    victims_percent: Annotated[float, Meaning("how many of the users", 0, 100)] = 50.0
    connections_percent: Annotated[int, Meaning("how many of their connections", 1, 100)] = 100

    def victims(self, users: Sequence[int]) -> Mapping[int, int]:
        count = round(len(users) * self.victims_percent / 100)
        return dict.fromkeys(users[:count], self.connections_percent)

    def policy(self, policy: Policy) -> Policy:
        return never_less(policy)


OURS: Final[dict[str, type[Any]]] = {"sybil": Sybil, "shill": Shill, "eclipse": Eclipse}
"""Those of this module by name."""
