"""What happened in one run, in order: the facts that the invariants are checked against.

Spec: specs/faults.md#history.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from protocol.machines.effects import Effect, ProbePeer, Publish, Report, Send
from protocol.machines.events import Awarded
from protocol.values.ids import JobId, LeaseId, PeerId, lease_id_of
from protocol.wire.envelope import Signed
from protocol.wire.messages import Award, CapabilityRecord
from tests.wording import Naming, of_message

SPOKEN: Final = Send | Publish | ProbePeer
"""Effects that carry a message."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One step of a node is on its disk. `event` is None for the first step after a restart."""

    at_ms: int
    node: PeerId
    event: Any
    effects: tuple[Effect, ...]
    said: tuple[Signed[Any], ...]
    """The messages among the effects."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An envelope left a node; `copies` of it will arrive."""

    at_ms: int
    node: PeerId
    receiver: PeerId
    signed: Signed[Any]
    copies: int


@dataclass(frozen=True, slots=True)
class Launched:
    """A sandbox started a container."""

    at_ms: int
    node: PeerId
    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class Noted:
    """Anything else: a crash, a restart, the end of a container."""

    at_ms: int
    text: str


Fact = Committed | Sent | Launched | Noted


@dataclass(frozen=True, slots=True)
class Place:
    """What a lease was awarded for."""

    requester: PeerId
    job_id: JobId
    attempt: int
    lease_id: LeaseId
    provider: PeerId
    rate: int

    @property
    def execution(self) -> tuple[PeerId, JobId, int]:
        """What at most one lease may run."""
        return self.requester, self.job_id, self.attempt


@dataclass
class History:
    """The facts of a run, and what follows from them."""

    facts: list[Fact] = field(default_factory=list)
    opened: dict[bytes, Signed[Any]] = field(default_factory=dict)
    """Each envelope that was signed, with its message."""
    places: dict[LeaseId, Place] = field(default_factory=dict)
    """What each lease was awarded for, as its requester committed it."""

    def commit(self, at_ms: int, node: PeerId, event: Any, effects: tuple[Effect, ...]) -> None:
        """Add a step."""
        said = tuple(
            self.opened[effect.envelope] for effect in effects if isinstance(effect, SPOKEN)
        )
        self.facts.append(Committed(at_ms, node, event, effects, said))
        awarded = {
            effect.event.lease_id: effect.job_id
            for effect in effects
            if isinstance(effect, Report) and isinstance(effect.event, Awarded)
        }
        for effect in effects if awarded else ():
            if isinstance(effect, Send):
                award = self.opened[effect.envelope].message
                if isinstance(award, Award):
                    self._note_award(node, effect.peer, award, awarded)

    def _note_award(
        self, node: PeerId, provider: PeerId, award: Award, jobs: dict[LeaseId, JobId]
    ) -> None:
        where = award.slot, award.attempt, award.offer
        lease_id = lease_id_of(award.call_id, *where, provider)
        self.places[lease_id] = Place(
            node, jobs[lease_id], award.attempt, lease_id, provider, award.rate
        )

    @property
    def steps(self) -> Iterator[Committed]:
        return (fact for fact in self.facts if isinstance(fact, Committed))

    @property
    def sent(self) -> Iterator[Sent]:
        return (fact for fact in self.facts if isinstance(fact, Sent))

    def lines(self, name_of: Naming, start_ms: int) -> Iterator[str]:
        """Yield the run as text, one line for each thing that happened."""
        for fact in self.facts:
            for text in _texts(fact, name_of):
                yield f"{fact.at_ms - start_ms:>9}  {text}"


def _texts(fact: Fact, name_of: Naming) -> Iterator[str]:
    match fact:
        case Noted(_, text):
            yield text
        case Launched(_, node, lease_id):
            yield f"{name_of(node)}: starts the container of {lease_id.hex()[:8]}"
        case Sent(_, node, receiver, signed, copies) if not _is_record(signed):
            fate = {0: " (lost)", 1: ""}.get(copies, " (repeated)")
            about = getattr(signed.message, "lease_id", b"").hex()[:8]
            told = of_message(signed.message, name_of)
            yield f"{name_of(node)} -> {name_of(receiver)}: {told} {about}{fate}"
        case Committed(_, node, Signed() as event) if not _is_record(event):
            yield f"{name_of(node)}: takes {of_message(event.message, name_of)}"


def _is_record(signed: Signed[Any]) -> bool:
    return isinstance(signed.message, CapabilityRecord)
