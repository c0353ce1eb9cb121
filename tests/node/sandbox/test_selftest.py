"""What a driver's self-test concludes.

Spec: specs/sandbox.md#self-test.
"""

from dataclasses import replace

from node.sandbox.driver import Exit
from node.sandbox.runner import cgroups
from node.sandbox.selftest import judge

HELD = {
    "walls": Exit(0, "exited", "", 50),
    "memory": Exit(137, "memory", "hog", 50),
    "pids": Exit(0, "exited", "", 50),
    "cpu": Exit(0, "exited", "", 500, 520),
    "disk": Exit(0, "exited", "", 50),
    "time": Exit(137, "timeout", "late", 700),
}


def test_all_held():
    probe = judge(HELD, frozenset())
    assert (probe.ok, probe.limits) == (True, ("memory", "pids", "cpu", "disk", "time"))


def test_what_did_not_hold_is_not_claimed():
    ends = HELD | {"pids": Exit(9, "exited", "", 50), "cpu": Exit(0, "exited", "", 500, 999)}
    assert judge(ends, frozenset()).limits == ("memory", "disk", "time")


def test_soft_limits_are_not_claimed():
    assert judge(HELD, frozenset({"memory", "cpu", "disk"})).limits == ("pids", "time")
    ends = HELD | {"memory": replace(HELD["memory"], reason="exited")}
    assert judge(ends, frozenset()).limits == ("pids", "cpu", "disk", "time")


def test_a_driver_without_walls_is_refused():
    for limit, end in (
        ("walls", Exit(1, "exited", "broken", 5)),
        ("memory", Exit(0, "exited", "", 5)),
    ):
        probe = judge(HELD | {limit: end}, frozenset())
        assert not probe.ok
        assert limit in probe.why


async def test_the_embedded_driver_proves_its_limits(room):
    probe = await room.driver.check()
    assert probe.ok, probe.why
    assert set(probe.limits) >= room.driver.hard_limits()
    assert not cgroups.find(room.driver.group).folders


async def test_without_control_groups_it_claims_less(bare_room):
    probe = await bare_room.driver.check()
    assert probe.ok, probe.why
    assert probe.limits == ("time",)
