"""Nodes that break the rules: each is a core with other inputs or other effects.

A scenario says how many there are of each kind: `[adversaries.no-show]` with `share_percent`.
Spec: specs/simulation-world.md#adversaries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final, Protocol

from node.simulator.world.quantities import Meaning
from protocol.core.core import Core, Saved
from protocol.core.jobs import BlockKey
from protocol.core.presence import Presence
from protocol.core.provider import Provider
from protocol.core.turnout import Turnout
from protocol.machines import effects, inputs
from protocol.machines.context import Policy
from protocol.machines.effects import Effect
from protocol.machines.inputs import Input
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signed, Signer, reopen
from protocol.wire.messages import LOTTERY_ALL, Award, Deploy, Outcome, Prices, Voucher

LENDERS, USERS = "lenders", "users"


class AnyCore(Protocol):
    """What the simulator asks of a core, honest or not."""

    @property
    def signer(self) -> Signer: ...

    @property
    def connected(self) -> dict[PeerId, str]: ...

    @property
    def presence(self) -> Presence: ...

    @property
    def provider(self) -> Provider: ...

    def handle(self, event: Input, now_ms: int) -> list[Effect]: ...

    def next_deadline_ms(self) -> int | None: ...

    def recover(self, saved: Saved, policy: Policy, now_ms: int) -> list[Effect]: ...


class Deviation:
    """A core that does what an honest one does, unless a subclass says otherwise."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.signer = core.signer
        self.connected = core.connected
        self.presence = core.presence
        self.provider = core.provider

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        """Process one input as a dishonest node."""
        return self.core.handle(event, now_ms)

    def next_deadline_ms(self) -> int | None:
        return self.core.next_deadline_ms()

    def recover(self, saved: Saved, policy: Policy, now_ms: int) -> list[Effect]:
        return self.core.recover(saved, policy, now_ms)


class _Deaf(Deviation):
    """Ignores one class of messages."""

    def __init__(self, core: Core, ignored: type) -> None:
        super().__init__(core)
        self._ignored = ignored

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        if isinstance(event, Signed) and isinstance(event.message, self._ignored):
            return []
        return super().handle(event, now_ms)


class _Inflating(Deviation):
    """Reports more usage than a container had."""

    def __init__(self, core: Core, percent: int) -> None:
        super().__init__(core)
        self._percent = percent

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        if isinstance(event, inputs.ContainerExited):
            event = replace(event, usage_ms=event.usage_ms * (100 + self._percent) // 100)
        return super().handle(event, now_ms)


class _Lying(Deviation):
    """Has not the hardware that it offers: each job fails when it starts."""

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        done: list[Effect] = []
        for effect in super().handle(event, now_ms):
            if isinstance(effect, effects.Launch):
                failed = inputs.ContainerFailed(effect.lease_id, "no such device")
                done += self.core.handle(failed, now_ms)
            else:
                done.append(effect)
        return done


class _Harvesting(Deviation):
    """Awards nobody, and tells no bidder how its auctions ended."""

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        return [
            each for each in super().handle(event, now_ms)
            if not (_carries(each, Award) or _carries(each, Outcome))
        ]  # fmt: skip


class _Unpaying(Deviation):
    """Sends no vouchers."""

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        return [each for each in super().handle(event, now_ms) if not _carries(each, Voucher)]


class _Everybody(Turnout):
    """Lets all nodes bid, however many there are."""

    def lottery(self, key: BlockKey, answering: int, recorded: int, *, is_first: bool) -> int:
        return LOTTERY_ALL


class _Crowding(Deviation):
    """Calls everybody."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        core.requester.scheduler.auctions.turnout = _Everybody()


def _carries(effect: Effect, kind: type) -> bool:
    return isinstance(effect, effects.Send) and isinstance(reopen(effect.envelope), kind)


@dataclass(frozen=True, slots=True)
class Conspiracy:
    """The nodes of one kind in a run."""

    chosen: tuple[PeerId, ...]
    helpers: tuple[PeerId, ...]
    """Lenders that help them."""


@dataclass(frozen=True, slots=True)
class Adversaries:
    """So many nodes deviate."""

    who: ClassVar[str] = LENDERS
    """Which of the nodes they are among."""
    share_percent: Annotated[float, Meaning("how many of the nodes that could be", 0, 100)] = 10.0

    def helpers(self, chosen: int) -> int:
        """Return how many lenders help so many nodes of this kind."""
        return 0

    def victims(self, users: Sequence[int]) -> Mapping[int, int]:
        """Return the users whose connections they have taken, and how many each, in percent."""
        return {}

    def unite(self, group: Conspiracy) -> "Adversaries":
        """Return the kind as it is in one run, where these nodes may share what they know."""
        return self

    def corrupt(self, core: Core) -> AnyCore:
        """Return what a node of this kind has instead of an honest core."""
        return core

    def policy(self, policy: Policy) -> Policy:
        """Return what a node of this kind offers instead of what it has."""
        return policy


@dataclass(frozen=True, slots=True)
class NoShow(Adversaries):
    """Lenders that win, promise to run the job, and do nothing."""

    def corrupt(self, core: Core) -> AnyCore:
        return _Deaf(core, Deploy)


@dataclass(frozen=True, slots=True)
class SilentWinner(Adversaries):
    """Lenders that bid, and do not answer an award."""

    def corrupt(self, core: Core) -> AnyCore:
        return _Deaf(core, Award)


@dataclass(frozen=True, slots=True)
class Inflation(Adversaries):
    """Lenders that report more usage than there was (golem-des: usage inflation)."""

    percent: Annotated[int, Meaning("how much more", 0, 10_000)] = 50

    def corrupt(self, core: Core) -> AnyCore:
        return _Inflating(core, self.percent)


@dataclass(frozen=True, slots=True)
class Liar(Adversaries):
    """Lenders that offer at a low price what they do not have: jobs fail at their start."""

    price_percent: Annotated[int, Meaning("their prices, in percent of their kind's", 1)] = 50

    def corrupt(self, core: Core) -> AnyCore:
        return _Lying(core)

    def policy(self, policy: Policy) -> Policy:
        return priced(policy, self.price_percent)


@dataclass(frozen=True, slots=True)
class Undercut(Adversaries):
    """Lenders that ask less than the work costs, and report more usage (golem-des: undercut)."""

    price_percent: Annotated[int, Meaning("their prices, in percent of their kind's", 1)] = 40
    percent: Annotated[int, Meaning("how much more usage they report", 0, 10_000)] = 200

    def corrupt(self, core: Core) -> AnyCore:
        return _Inflating(core, self.percent)

    def policy(self, policy: Policy) -> Policy:
        return priced(policy, self.price_percent)


@dataclass(frozen=True, slots=True)
class Ring(Adversaries):
    """Lenders that have agreed never to ask less than their list price."""

    def policy(self, policy: Policy) -> Policy:
        return never_less(policy)


@dataclass(frozen=True, slots=True)
class FakeCaller(Adversaries):
    """Users that call, read the bids, and award nobody."""

    who: ClassVar[str] = USERS

    def corrupt(self, core: Core) -> AnyCore:
        return _Harvesting(core)


@dataclass(frozen=True, slots=True)
class NonPayer(Adversaries):
    """Users that take results and send no vouchers."""

    who: ClassVar[str] = USERS

    def corrupt(self, core: Core) -> AnyCore:
        return _Unpaying(core)


@dataclass(frozen=True, slots=True)
class Crowd(Adversaries):
    """Users whose calls let everybody bid, as if there were no lottery."""

    who: ClassVar[str] = USERS
    share_percent: Annotated[float, Meaning("how many of the users", 0, 100)] = 100.0

    def corrupt(self, core: Core) -> AnyCore:
        return _Crowding(core)


def never_less(policy: Policy) -> Policy:
    """Return a policy that always asks its list prices."""
    return replace(policy, floor_percent=100)


def priced(policy: Policy, percent: int) -> Policy:
    """Return a policy with other list prices, in percent of its own."""
    cpu, memory, gpu = policy.prices.cpu, policy.prices.memory_gib, policy.prices.gpu
    cheap = Prices(*(rate * percent // 100 for rate in (cpu, memory, gpu)))
    return replace(policy, prices=cheap)


OURS: Final[dict[str, type[Any]]] = {
    "no-show": NoShow,
    "silent-winner": SilentWinner,
    "inflation": Inflation,
    "liar": Liar,
    "undercut": Undercut,
    "ring": Ring,
    "non-payer": NonPayer,
    "crowd": Crowd,
    "fake-caller": FakeCaller,
}
"""Those of this module by name. Others are in idling.py and collusion.py."""
