"""Which jobs come, when, and from whom.

Spec: specs/simulation-world.md#demand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Annotated, Final, Protocol

from node.simulator.containers import WORK
from node.simulator.seeds import stream
from node.simulator.world.quantities import Duration, Meaning
from protocol.machines import inputs
from protocol.values.ids import JobId, digest_of
from protocol.wire.job import (
    ARRAY_ID_BYTES,
    JobSpec,
    Resources,
    Terms,
    Workload,
    gang_of,
    member_id,
)

IMAGE: Final = digest_of(b"an image")
IMAGE_BYTES: Final = 100 * 1024**2
TIMEOUT_FACTOR: Final = 4
"""A job may take so many times its work."""
SHORTEST_MS: Final = 1_000
DAY_MS: Final = 86_400_000
JOB_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job of a user."""

    at_ms: int
    requester: int
    spec: JobSpec


class JobDemand(Protocol):
    """A model of demand."""

    def arrivals(self, horizon_ms: int, requesters: int, seed: int) -> Iterator[Arrival]:
        """Yield the jobs in the order of their times."""
        ...


@dataclass(frozen=True, slots=True)
class JobModel:
    """What the jobs of a model are like."""

    work: Annotated[Duration, Meaning("the mean usage; its distribution is exponential")] = (
        Duration(60_000)
    )
    cpus: Annotated[int, Meaning("processors", 1, 4096)] = 1
    gpus: Annotated[int, Meaning("GPUs", 0, 64)] = 0
    gpu_class: Annotated[str, Meaning("their class; empty: any")] = ""
    image_mib: Annotated[int, Meaning("the size of the image", 0)] = 100
    nodes: Annotated[int, Meaning("members, if it is a gang", 1, 64)] = 1
    queue: Annotated[Duration, Meaning("how long a job waits for a slot at most")] = Duration(
        3_600_000
    )
    memory_mib: Annotated[int, Meaning("memory in MiB", 16)] = 512


@dataclass(frozen=True, slots=True)
class Poisson(JobModel):
    """Jobs come independently of each other, at one rate."""

    per_minute: Annotated[float, Meaning("how many jobs come a minute, in all", 0)] = 60.0

    def arrivals(self, horizon_ms: int, requesters: int, seed: int) -> Iterator[Arrival]:
        chance = stream(seed, "demand")
        at_ms = 0.0
        while self.per_minute:
            at_ms += chance.expovariate(self.per_minute / 60_000)
            if at_ms >= horizon_ms:
                return
            yield Arrival(int(at_ms), chance.randrange(requesters), spec_of(self, chance.random()))


@dataclass(frozen=True, slots=True)
class Diurnal(Poisson):
    """The rate follows the day: a sine with the mean `per_minute`."""

    swing: Annotated[
        float, Meaning("how far the rate is from its mean at most, as a share", 0, 1)
    ] = 0.8

    def arrivals(self, horizon_ms: int, requesters: int, seed: int) -> Iterator[Arrival]:
        chance = stream(seed, "demand/thinning")
        faster = replace(self, per_minute=self.per_minute * (1 + self.swing))
        for arrival in Poisson.arrivals(faster, horizon_ms, requesters, seed):
            phase = math.sin(2 * math.pi * arrival.at_ms / DAY_MS)
            if chance.random() * (1 + self.swing) < 1 + self.swing * phase:
                yield arrival


@dataclass(frozen=True, slots=True)
class Burst(JobModel):
    """All jobs come at once."""

    jobs: Annotated[int, Meaning("how many", 1)] = 100
    at: Annotated[Duration, Meaning("when")] = Duration(0)

    def arrivals(self, horizon_ms: int, requesters: int, seed: int) -> Iterator[Arrival]:
        chance = stream(seed, "demand")
        for number in range(self.jobs if self.at < horizon_ms else 0):
            yield Arrival(self.at, number % requesters, spec_of(self, chance.random()))


@dataclass(frozen=True, slots=True)
class Bags(JobModel):
    """Each user has a bag of equal jobs now and then: all at once, of one length."""

    jobs: Annotated[int, Meaning("how many jobs a bag has", 1)] = 10
    every: Annotated[Duration, Meaning("the time from one bag of a user to its next")] = Duration(
        1_800_000
    )
    spread_percent: Annotated[int, Meaning("how far the work is from its mean at most", 0, 99)] = 0

    def arrivals(self, horizon_ms: int, requesters: int, seed: int) -> Iterator[Arrival]:
        chance = stream(seed, "demand/bags")
        every_ms = max(1, self.every)
        for turn in count():
            at_ms = turn * every_ms // requesters
            if at_ms >= horizon_ms:
                return
            percent = 100 + chance.uniform(-self.spread_percent, self.spread_percent)
            work_ms = max(1, round(self.work * percent / 100))
            spec = exact_spec(self, work_ms, work_ms * TIMEOUT_FACTOR)
            for _ in range(self.jobs):
                yield Arrival(at_ms, turn % requesters, spec)


def submission_of(spec: JobSpec, chance: Random) -> inputs.JobSubmitted | inputs.ArraySubmitted:
    """Return what a user submits for a job; for a gang, all its members."""
    if spec.terms.nodes == 1:
        return inputs.JobSubmitted(JobId(chance.randbytes(JOB_ID_BYTES)), spec)
    gang = chance.randbytes(ARRAY_ID_BYTES)
    members = gang_of(spec, gang)
    return inputs.ArraySubmitted(
        tuple(inputs.JobSubmitted(member_id(gang, each.index), each) for each in members)
    )


def spec_of(job: JobModel, drawn: float) -> JobSpec:
    """Return a job; `drawn` is a random number from 0 to 1 that decides how much work it is."""
    longest_ms = max(SHORTEST_MS, job.work * TIMEOUT_FACTOR)
    return exact_spec(job, min(max(1, round(-math.log(1 - drawn) * job.work)), longest_ms))


def exact_spec(job: JobModel, work_ms: int, longest_ms: int | None = None) -> JobSpec:
    """Return a job that needs so much work; it may take four times the model's, or so long."""
    longest_ms = max(SHORTEST_MS, longest_ms or job.work * TIMEOUT_FACTOR)
    wanted = Resources(job.cpus, job.memory_mib, gpus=job.gpus, gpu_class=job.gpu_class)
    workload = Workload(
        IMAGE, (WORK, str(work_ms)), resources=wanted, timeout_ms=longest_ms,
        image_bytes=job.image_mib * 1024**2,
    )  # fmt: skip
    return JobSpec("", workload, Terms(0, nodes=job.nodes, queue_ms=job.queue))
