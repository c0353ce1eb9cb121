"""What the owner's conditions forbid, and for how long. Spec: specs/owner.md#conditions."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.config.sections import Hours, ProviderSettings
from node.hardware.gpu import GpuReading
from node.owner.activity import OwnerActivity
from node.owner.conditions import Conditions, Sensors
from node.owner.control import OwnerControl
from node.owner.heat import PowerMeter
from node.storage.journal import Journal
from protocol.core.core import Core
from protocol.machines.inputs import PolicyChanged, ReclaimRequested
from protocol.rules.capacity import Capacity, Device
from tests.driven import POLICY
from tests.node.fixtures import until
from tests.node.owner.test_control import Inbox, begun
from tests.strategies import SIGNERS

GPU = Device("GPU-1", "h100", 80_000, "H100")
LENT = replace(POLICY, capacity=Capacity(2, 4_096, 50_000, (GPU,)))


class Machine:
    """Conditions over sensors that the test sets."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.inbox = Inbox()
        self.control: OwnerControl = begun(self.inbox, journal, LENT)
        self.readings: dict[str, GpuReading] = {}
        self.celsius: int | None = None
        self.now_s = 1_800_000_000.0
        self.stat = folder / "stat"
        self.busy_s = 0.0
        self.use(0, 0)
        self.sensors = Sensors(
            lambda: self.readings, OwnerActivity(folder, folder), PowerMeter(folder),
            lambda: self.celsius, lambda: self.now_s,
        )  # fmt: skip
        self.core = Core(SIGNERS[0], LENT)
        self.conditions: Conditions

    def use(self, processors: float, seconds: float) -> None:
        """Let other programs use processors, from the last check on."""
        self.busy_s += processors * seconds
        ticks = round(self.busy_s * os.sysconf("SC_CLK_TCK"))
        self.stat.write_text(f"cpu  {ticks} 0 0 0 0 0 0 0 0 0\n")

    def wants(self, **settings: Any) -> None:
        self.conditions = Conditions(
            ProviderSettings(**settings), self.control, self.core, self.sensors
        )

    async def closed(self, passed_s: float = 0) -> str:
        self.now_s += passed_s
        await self.conditions.check()
        return self.control.closed


@pytest.fixture
def machine(tmp_path: Path, journal: Journal) -> Iterator[Machine]:
    made = Machine(tmp_path, journal)
    yield made
    made.sensors.activity.close()


async def test_an_owner_who_sets_nothing_forbids_nothing(machine: Machine) -> None:
    machine.wants()
    assert await machine.closed() == ""
    assert machine.conditions.known == ()


async def test_outside_the_hours_no_job_is_taken(machine: Machine) -> None:
    """2027-01-15, 8:00 in UTC: a Friday everywhere."""
    machine.wants(hours=(Hours("sat-thu"),))
    assert (await machine.closed()).startswith("provider.hours: closed until sat 00:00")
    assert await machine.closed(2 * 86_400) == ""
    assert [one.seen for one in machine.conditions.known] == ["open"]


async def test_the_machine_must_have_been_idle_for_so_long(machine: Machine) -> None:
    machine.wants(idle_s=600)
    assert await machine.closed() == ""
    machine.use(3.0, 5)
    assert await machine.closed(5) == "provider.idle_s: its owner uses the machine"
    assert await machine.closed(599) != ""
    assert await machine.closed(1) == ""
    machine.readings = {"GPU-1": GpuReading("GPU-1", utilisation_percent=60)}
    assert await machine.closed(5) != ""
    assert machine.conditions.known[0].seen == "GPU-1 is 60 % busy"
    assert len(machine.inbox.taken) == 3, "it says nothing new while nothing changes"


async def test_a_gpu_is_its_owners_when_no_job_has_held_it_for_a_while(machine: Machine) -> None:
    """The reading may be older than the end of a job."""
    machine.wants(idle_s=600)
    machine.readings = {"GPU-1": GpuReading("GPU-1", utilisation_percent=60)}
    assert [await machine.closed(5) != "" for _ in range(3)] == [False, False, True]


async def test_a_gpu_that_a_job_holds_is_not_used_by_its_owner(machine: Machine) -> None:
    machine.wants(idle_s=600)
    machine.readings = {"GPU-2": GpuReading("GPU-2", utilisation_percent=100)}
    assert await machine.closed() == ""


async def test_a_machine_that_was_too_hot_has_to_be_cooler(machine: Machine) -> None:
    machine.wants(cpu_celsius_max=80, gpu_watts_max=300)
    assert await machine.closed() == ""
    assert [one.met for one in machine.conditions.known] == [None, None]
    for celsius, is_closed in ((80, False), (81, True), (76, True), (75, False), (80, False)):
        machine.celsius = celsius
        assert bool(await machine.closed(5)) == is_closed, celsius
    machine.readings = {"GPU-1": GpuReading("GPU-1", power_w=301)}
    assert await machine.closed(5) == "provider.gpu_watts_max: the machine uses too much power"


async def test_jobs_end_once_if_the_owner_wants_that(machine: Machine) -> None:
    machine.wants(cpu_celsius_max=80, when_closed="reclaim")
    ended = ReclaimRequested(LENT.notice_ms)
    for celsius in (90, 91, 70, 90):
        machine.celsius = celsius
        await machine.closed(5)
    kinds = [type(event) for event in machine.inbox.taken]
    assert kinds == [PolicyChanged, ReclaimRequested] + [PolicyChanged] * 2 + [ReclaimRequested]
    assert machine.inbox.taken[1] == ended


async def test_it_checks_as_soon_as_a_condition_is_set(machine: Machine) -> None:
    machine.wants()
    machine.celsius = 90
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.conditions.run)
        await trio.testing.wait_all_tasks_blocked()
        assert machine.conditions.known == (), "without any it waits until one is set"
        machine.conditions.change(ProviderSettings(cpu_celsius_max=80))
        await until(lambda: "the machine is too hot" in machine.control.closed, "a check")
        nursery.cancel_scope.cancel()


async def test_a_change_of_the_settings_counts_at_once(machine: Machine) -> None:
    machine.wants(idle_s=600)
    await machine.conditions.check()
    machine.use(9, 5)
    assert await machine.closed(5) != ""
    machine.conditions.change(ProviderSettings())
    assert await machine.closed() == ""
