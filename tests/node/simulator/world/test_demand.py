"""Which jobs come: in order, at the rate and of the size that the model says.

Spec: specs/simulation-world.md#demand.
"""

from itertools import pairwise

import pytest

from node.simulator.containers import work_of
from node.simulator.seeds import stream
from node.simulator.world.demand import (
    DAY_MS,
    JOB_ID_BYTES,
    SHORTEST_MS,
    TIMEOUT_FACTOR,
    Arrival,
    Bags,
    Burst,
    Diurnal,
    JobDemand,
    JobModel,
    Poisson,
    spec_of,
    submission_of,
)
from node.simulator.world.quantities import Duration
from protocol.machines import inputs
from protocol.wire.job import faults_of_workload

HOUR_MS = 3_600_000


def arrivals(
    model: JobDemand, horizon_ms: int, seed: int = 1, requesters: int = 5
) -> list[Arrival]:
    return list(model.arrivals(horizon_ms, requesters, seed))


@pytest.mark.parametrize("model", [Poisson(), Diurnal(), Burst()], ids=repr)
def test_jobs_come_in_order_within_the_horizon_and_repeat(model: JobDemand) -> None:
    found = arrivals(model, HOUR_MS)
    times = [each.at_ms for each in found]
    assert times == sorted(times)
    assert all(0 <= at_ms < HOUR_MS for at_ms in times)
    assert {each.requester for each in found} == set(range(5))
    assert found == arrivals(model, HOUR_MS)
    assert found != arrivals(model, HOUR_MS, seed=2)


def test_a_bag_has_equal_jobs_and_each_user_has_one_now_and_then() -> None:
    model = Bags(jobs=4, every=Duration(1_000), work=Duration(10_000), spread_percent=50)
    found = arrivals(model, 2_000, requesters=2)
    assert [(each.at_ms, each.requester) for each in found] == [
        (at_ms, user) for at_ms, user in ((0, 0), (500, 1), (1_000, 0), (1_500, 1))
        for _ in range(4)
    ]  # fmt: skip
    bags = [found[place : place + 4] for place in range(0, 16, 4)]
    works = []
    for bag in bags:
        assert len({each.spec for each in bag}) == 1
        works.append(work_of(bag[0].spec.workload))
        assert bag[0].spec.workload.timeout_ms == works[-1] * TIMEOUT_FACTOR
    assert len(set(works)) == 4
    assert all(5_000 <= work_ms <= 15_000 for work_ms in works)
    assert found != arrivals(model, 2_000, seed=2, requesters=2)


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    long, short = arrivals(Poisson(), 2 * HOUR_MS), arrivals(Poisson(), HOUR_MS)
    assert long[: len(short)] == short


def test_poisson_arrivals_are_as_many_as_they_should_be_and_independent() -> None:
    found = arrivals(Poisson(per_minute=30.0), 2 * HOUR_MS)
    assert abs(len(found) - 3_600) < 4 * 60
    gaps = [b.at_ms - a.at_ms for a, b in pairwise(found)]
    average = sum(gaps) / len(gaps)
    variance = sum((gap - average) ** 2 for gap in gaps) / len(gaps)
    assert abs(variance**0.5 / average - 1) < 0.08  # Exponential: as large as the mean.
    assert arrivals(Poisson(per_minute=0.0), HOUR_MS) == []


def test_the_day_has_its_tide() -> None:
    found = arrivals(Diurnal(per_minute=5.0, swing=0.8), DAY_MS)
    assert abs(len(found) - 7_200) < 4 * 85
    morning = sum(each.at_ms < DAY_MS / 2 for each in found)
    expected = 0.5 + 0.8 / 3.14159  # The integral of the sine over half of its period.
    assert abs(morning / len(found) - expected) < 0.02


def test_a_burst_comes_at_once_to_all_in_turn() -> None:
    found = arrivals(Burst(jobs=7, at=Duration(500)), 1_000)
    assert [(each.at_ms, each.requester) for each in found] == [
        (500, number % 5) for number in range(7)
    ]
    assert arrivals(Burst(jobs=7, at=Duration(500)), 500) == []


def test_work_is_exponential_and_fits_its_time_limit() -> None:
    model = JobModel(work=Duration(60_000))
    worked = []
    for place in range(2_000):
        workload = spec_of(model, (place + 0.5) / 2_000).workload
        assert 1 <= work_of(workload) <= workload.timeout_ms == TIMEOUT_FACTOR * 60_000
        worked.append(work_of(workload))
    assert abs(sum(worked) / len(worked) - 60_000) < 2_000
    assert abs(sorted(worked)[1_000] - 0.693 * 60_000) < 500


@pytest.mark.parametrize("drawn", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("work", [0, 1, 60_000])
def test_any_job_is_one_that_the_protocol_takes(drawn: float, work: int) -> None:
    model = JobModel(work=Duration(work), cpus=3, gpus=2, gpu_class="a100", image_mib=7, nodes=2)
    spec = spec_of(model, drawn)
    assert not faults_of_workload(spec.workload)
    assert spec.workload.timeout_ms >= SHORTEST_MS
    assert (spec.workload.resources.cpus, spec.workload.resources.gpus) == (3, 2)
    assert (spec.workload.image_bytes, spec.terms.nodes) == (7 * 1024**2, 2)
    assert spec.terms.queue_ms == model.queue


def test_a_gang_is_submitted_with_all_its_members_and_anything_else_alone() -> None:
    alone = submission_of(spec_of(JobModel(), 0.5), stream(1, "ids"))
    assert isinstance(alone, inputs.JobSubmitted)
    assert len(alone.job_id) == JOB_ID_BYTES
    gang = submission_of(spec_of(JobModel(nodes=3), 0.5), stream(1, "ids"))
    assert isinstance(gang, inputs.ArraySubmitted)
    assert [member.spec.index for member in gang.jobs] == [0, 1, 2]
    assert len({member.job_id for member in gang.jobs}) == 3
    assert {len(member.job_id) for member in gang.jobs} == {JOB_ID_BYTES}
