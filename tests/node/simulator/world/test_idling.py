"""Lenders that let jobs take longer: the only way to be paid for more than a job needs.

Spec: specs/simulation-world.md#adversaries.
"""

from protocol.machines import effects, events
from tests.node.simulator.world.test_adversaries import Outcome

ONE = {
    "nodes": 2, "requesters": 1, "demand.model": "burst", "demand.jobs": 3, "demand.work": "20s",
    "supply.model": "equal", "supply.cpus": 1,
}  # fmt: skip
"""A lender, which runs one job after another."""


class Idle(Outcome):
    """What the jobs took."""

    def __init__(self, kind: str = "", **parameters: object) -> None:
        self.usage_ms: list[int] = []
        super().__init__(kind, ONE, **parameters)

    def _settle(self, receipt: effects.Settle) -> None:
        super()._settle(receipt)
        self.usage_ms.append(receipt.usage_ms)


def more_than_honest(kind: str, **parameters: object) -> list[int]:
    """Return how much longer each job took than with an honest lender, in ms."""
    honest, found = Idle(), Idle(kind, share_percent=100, **parameters)
    assert found.kinds[events.Done] == honest.kinds[events.Done] == 3
    return [ours - theirs for ours, theirs in zip(found.usage_ms, honest.usage_ms, strict=True)]


def test_each_job_takes_longer_than_the_one_before() -> None:
    assert more_than_honest("linear-inflation", step="5s") == [0, 5_000, 10_000]


def test_no_job_takes_so_long_that_it_is_stopped() -> None:
    longest = Idle("linear-inflation", share_percent=100, step="1m", most_percent=60).usage_ms[1:]
    assert longest == [48_000] * 2, "60 % of 80 s, the time limit"


def test_a_budget_is_used_up() -> None:
    found = Idle("undercut-budget", share_percent=100, most_percent=90)
    assert found.usage_ms == [72_000] * 3


def test_low_prices_win_what_idling_takes() -> None:
    honest, undercut = Outcome(), Outcome("undercut-budget", share_percent=20)
    assert undercut.income_of_adversaries > 0.5 * sum(undercut.paid.values())
    assert sum(undercut.paid.values()) > sum(honest.paid.values())


def test_the_usage_of_honest_nodes_may_differ_by_chance() -> None:
    more = more_than_honest("uneven", percent=20)
    honest = Idle().usage_ms
    assert len(set(more)) > 1
    assert all(abs(each) <= 0.2 * usage + 1 for each, usage in zip(more, honest, strict=True))
