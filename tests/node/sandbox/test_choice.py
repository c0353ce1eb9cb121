"""Which driver is taken.

Spec: specs/execution.md#drivers.
"""

import pytest

from node.sandbox import choice
from node.sandbox.driver import Probe
from protocol.values.errors import SandboxUnavailable


class Fake:
    isolation = 1

    def __init__(self, name, probe):
        self.name, self.probe, self.kept = name, probe, None

    async def check(self):
        return self.probe

    async def reap(self, names):
        self.kept = names


GOOD, BAD = Probe(ok=True, why="", limits=("time",)), Probe(ok=False, why="no luck")


async def test_the_first_that_works_is_taken():
    drivers = [Fake("a", BAD), Fake("b", GOOD), Fake("c", GOOD)]
    assert await choice.first_that_works(drivers) == (drivers[1], GOOD)


async def test_every_complaint_and_what_to_do_is_said():
    with pytest.raises(SandboxUnavailable, match=r"a: no luck; b: no luck.*install"):
        await choice.first_that_works([Fake("a", BAD), Fake("b", BAD)])
