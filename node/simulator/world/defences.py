"""What a user does against lenders that let jobs take longer, besides what its node does.

Both are of the marketplace simulator golem-des (Golem, 2019). They stand between the user and the
node: they submit jobs, read how these end, and exclude lenders by the query of a job, as any user
could. Spec: specs/simulation-world.md#defences.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, replace
from statistics import geometric_mean, quantiles
from typing import Annotated, Final, Protocol

from node.simulator.world.adversaries import AnyCore, Deviation
from node.simulator.world.quantities import Meaning
from protocol.core.core import Core
from protocol.machines import effects, events, inputs
from protocol.machines.effects import Effect
from protocol.machines.inputs import Input
from protocol.values.ids import JobId, PeerId
from protocol.values.limits import QUERY_BYTES_MAX
from protocol.wire.job import JobSpec

NAME_CHARS: Final = 8
"""So many last characters of a peer id name a node in a query."""
FENCES: Final = 1.5
"""An outlier is so many interquartile ranges above the third quartile (Tukey 1977)."""


class Defences(Protocol):
    """A model of what a user does."""

    def guard(self, core: Core) -> AnyCore:
        """Return what a user has instead of the bare core of its node."""
        ...


@dataclass(frozen=True, slots=True)
class NoDefence:
    """Users leave all to their nodes."""

    def guard(self, core: Core) -> AnyCore:
        return core


@dataclass(frozen=True, slots=True)
class Redundancy:
    """Users run each job twice, on different nodes, and leave those that take longer in the end."""

    rating_max: Annotated[float, Meaning("from this rating on a node is excluded", 1)] = 2.0

    def guard(self, core: Core) -> AnyCore:
        return _Comparing(core, self.rating_max)


@dataclass(frozen=True, slots=True)
class OutlierBan:
    """Users exclude nodes whose usage is an outlier for some rounds, each time for longer."""

    def guard(self, core: Core) -> AnyCore:
        return _Banning(core)


class _Guard(Deviation, ABC):
    """Follows the jobs of a user to their ends."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.provider_of: dict[JobId, PeerId] = {}
        """Where each job runs."""

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        if isinstance(event, inputs.JobSubmitted):
            event = self._submit(event)
        elif isinstance(event, inputs.ArraySubmitted):
            event = replace(event, jobs=tuple(map(self._submit, event.jobs)))
        done = super().handle(event, now_ms)
        for effect in tuple(done):
            if isinstance(effect, effects.Report):
                done += self._follow(effect.job_id, effect.event, now_ms)
        return done

    def _submit(self, event: inputs.JobSubmitted) -> inputs.JobSubmitted:
        self.note_submitted(event)
        return replace(event, spec=without(event.spec, self.excluded()))

    def _follow(self, job_id: JobId, event: events.JobEvent, now_ms: int) -> list[Effect]:
        if isinstance(event, events.Running):
            self.provider_of[job_id] = event.provider
            return self.note_running(job_id, event.provider, now_ms)
        if isinstance(event, events.Done | events.Failed):
            usage_ms = event.usage_ms if isinstance(event, events.Done) else 0
            self.note_ended(job_id, self.provider_of.pop(job_id, PeerId("")), usage_ms)
        return []

    def note_submitted(self, event: inputs.JobSubmitted) -> None:
        """Note a job of the user."""

    def note_running(self, job_id: JobId, provider: PeerId, now_ms: int) -> list[Effect]:
        """Return what else the node does when a job runs."""
        return []

    @abstractmethod
    def note_ended(self, job_id: JobId, provider: PeerId, usage_ms: int) -> None:
        """Note the end of a job; the usage is 0 if it failed."""

    @abstractmethod
    def excluded(self) -> list[PeerId]:
        """Return the nodes that get no job, the newest last."""


class _Comparing(_Guard):
    """Compares the usage of the two copies of each job."""

    def __init__(self, core: Core, rating_max: float) -> None:
        super().__init__(core)
        self._rating_max = rating_max
        self._specs: dict[JobId, JobSpec] = {}
        """Those of the jobs without a copy."""
        self._other: dict[JobId, JobId] = {}
        self._ended: dict[JobId, tuple[PeerId, int]] = {}
        """The first copies that are done: where, and their usage."""
        self._ratings: dict[PeerId, float] = {}

    def note_submitted(self, event: inputs.JobSubmitted) -> None:
        if event.spec.terms.nodes == 1:  # The members of a gang belong together.
            self._specs[event.job_id] = event.spec

    def note_running(self, job_id: JobId, provider: PeerId, now_ms: int) -> list[Effect]:
        spec = self._specs.pop(job_id, None)
        if spec is None:
            return []
        copy = copy_of(job_id)
        self._other |= {job_id: copy, copy: job_id}
        elsewhere = without(spec, [*self.excluded(), provider])
        return self.core.handle(inputs.JobSubmitted(copy, elsewhere), now_ms)

    def note_ended(self, job_id: JobId, provider: PeerId, usage_ms: int) -> None:
        self._specs.pop(job_id, None)
        other = self._other.pop(job_id, None)
        if other in self._ended:
            self._compare(self._ended.pop(other), (provider, usage_ms))
        elif other is not None:
            self._ended[job_id] = provider, usage_ms

    def excluded(self) -> list[PeerId]:
        return [peer for peer, rating in self._ratings.items() if rating >= self._rating_max]

    def _compare(self, one: tuple[PeerId, int], two: tuple[PeerId, int]) -> None:
        """Raise the rating of who took longer, for its rating, and lower the other one's."""
        if not one[1] or not two[1] or one[0] == two[0]:
            return
        before = [self._ratings.get(peer, 1.0) for peer, _ in (one, two)]
        ratio = math.sqrt(one[1] / before[0] / (two[1] / before[1]))
        self._ratings |= {one[0]: before[0] * ratio, two[0]: before[1] / ratio}


class _Banning(_Guard):
    """Looks for outliers when no job of the user is open: that is the end of a round."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._open: set[JobId] = set()
        self._usages: dict[PeerId, list[int]] = {}
        self._bans: dict[PeerId, int] = {}
        """For how many rounds more a node is excluded."""
        self._collisions: Counter[PeerId] = Counter()

    def note_submitted(self, event: inputs.JobSubmitted) -> None:
        self._open.add(event.job_id)

    def note_ended(self, job_id: JobId, provider: PeerId, usage_ms: int) -> None:
        self._open.discard(job_id)
        if usage_ms:
            self._usages.setdefault(provider, []).append(usage_ms)
        if not self._open:
            self._end_round()

    def excluded(self) -> list[PeerId]:
        return list(self._bans)

    def _end_round(self) -> None:
        self._bans = {peer: left - 1 for peer, left in self._bans.items() if left > 1}
        usage = {peer: geometric_mean(each) for peer, each in self._usages.items()}
        limit = outlier_limit(list(usage.values()))
        for peer, mean in usage.items():
            if mean > limit:
                self._collisions[peer] += 1
                self._bans[peer] = math.ceil(math.exp(self._collisions[peer]))
            else:
                self._collisions[peer] = max(0, self._collisions[peer] - 1)
        self._usages.clear()


def copy_of(job_id: JobId) -> JobId:
    """Return the id of the second copy of a job."""
    return JobId(hashlib.sha256(b"copy" + job_id).digest()[: len(job_id)])


def outlier_limit(sample: list[float]) -> float:
    """Return the value above which a member of a sample is an outlier; infinite for less than two.

    Q3 + 1.5 (Q3 - Q1), quartiles linear between two values (Hyndman and Fan 1996, type 7).
    """
    if len(sample) < 2:
        return math.inf
    first, _, third = quantiles(sample, n=4, method="inclusive")
    return third + FENCES * (third - first)


def without(spec: JobSpec, peers: list[PeerId]) -> JobSpec:
    """Return a job that none of these nodes may get; if the query lacks room, the newest."""
    where = spec.terms.where
    head, tail = f"({where}) not peer in [" if where else "not peer in [", "]"
    room = (QUERY_BYTES_MAX - len(head.encode()) - len(tail)) // (NAME_CHARS + 1)
    names = sorted({peer[-NAME_CHARS:] for peer in peers[max(0, len(peers) - room) :]})
    if not names:
        return spec
    return replace(spec, terms=replace(spec.terms, where=f"{head}{','.join(names)}{tail}"))
