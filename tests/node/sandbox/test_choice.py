"""Which driver is taken, and who keeps what another started.

Spec: specs/sandbox.md#drivers.
"""

import pytest

from node.sandbox import choice, runfolder
from node.sandbox.driver import Probe
from node.sandbox.runner import records
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import launch_of, workload


class Fake:
    isolation = 1

    def __init__(self, name, probe):
        self.name, self.probe, self.kept, self.calls = name, probe, None, []

    async def check(self):
        return self.probe

    async def reap(self, names):
        self.kept = names

    async def remove(self, folder):
        self.calls.append(("remove", folder.name))

    async def take_over(self, folder):
        self.calls.append(("take over", folder.name))
        return self.name == "embedded"

    async def start(self, launch, folder):
        self.calls.append(("start", folder.name))

    def usage_ms(self, folder):
        return len(self.name)


GOOD, BAD = Probe(ok=True, why="", limits=("time", "memory")), Probe(ok=False, why="no luck")
NONE = frozenset()


async def test_the_first_that_works_is_taken_and_says_why():
    drivers = [Fake("a", BAD), Fake("b", GOOD), Fake("c", GOOD)]
    found = await choice.first_that_works(drivers)
    assert (found.driver, found.probe) == (drivers[1], GOOD)
    assert found.why == "the other does not work here: a: no luck; hard limits: time, memory"
    assert found.soft_limits == ("pids", "cpu", "disk")
    assert "tries it first" in (await choice.first_that_works(drivers[1:])).why
    assert "asks for it" in (await choice.first_that_works(drivers[1:2])).why


async def test_every_complaint_and_what_to_do_is_said():
    with pytest.raises(SandboxUnavailable, match=r"a: no luck; b: no luck.*install"):
        await choice.first_that_works([Fake("a", BAD), Fake("b", BAD)])


async def test_a_container_stays_with_the_driver_that_started_it(tmp_path):
    new, old = Fake("docker", GOOD), Fake("embedded", GOOD)
    chosen = choice.ChosenDriver(new, [old], tmp_path)
    await chosen.reap(NONE)
    assert (new.kept, old.kept) == (NONE, None)  # Nothing of the other is left.
    for name in ("embedded", "docker", "none"):
        (tmp_path / name).mkdir()
    for name in ("embedded", "docker"):
        runfolder.write_record(tmp_path / name, records.LAUNCH, [("driver", name)])
    assert await chosen.take_over(tmp_path / "embedded")
    assert not await chosen.take_over(tmp_path / "docker")
    assert chosen.usage_ms(tmp_path / "embedded") == len("embedded")
    await chosen.start(launch_of(workload("true")), tmp_path / "none")
    await chosen.remove(tmp_path / "embedded")
    await chosen.remove(tmp_path / "docker")
    assert old.calls == [("take over", "embedded"), ("remove", "embedded")]
    assert new.calls == [("take over", "docker"), ("start", "none"), ("remove", "docker")]
    await chosen.reap(NONE)
    assert old.kept == NONE


async def test_what_is_left_goes_though_the_other_driver_is_gone(tmp_path):
    class Gone(Fake):
        async def reap(self, names):
            raise SandboxUnavailable("no engine")

    chosen = choice.ChosenDriver(new := Fake("embedded", GOOD), [Gone("docker", BAD)], tmp_path)
    (tmp_path / "left").mkdir()
    runfolder.write_record(tmp_path / "left", records.LAUNCH, [("driver", "docker")])
    with pytest.raises(SandboxUnavailable):
        await chosen.reap(NONE)
    assert new.kept == NONE


async def test_what_the_embedded_driver_started_ends_under_another(room):
    """A node whose engine has come since: the container is taken over, and removed whole."""
    folder = await room.start(launch := launch_of(workload("/bin/sleep", "30")))
    chosen = choice.ChosenDriver(Fake("docker", GOOD), [room.driver], room.driver.runs)
    assert await chosen.take_over(folder)
    await chosen.start(launch, folder)
    await chosen.extend(folder, 25_000)
    assert await chosen.copy_checkpoint(folder, "state", b"") == b""
    await chosen.terminate(folder)
    assert (await chosen.wait(folder)).exit_code == 143
    await chosen.kill(folder)
    await chosen.remove(folder)
    assert not folder.exists()
