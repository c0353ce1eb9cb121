"""Peers that do not keep their word, among honest ones whose jobs must succeed all the same.

Spec: specs/auction.md#selection.
"""

from collections.abc import Callable

import pytest

from protocol.core.jobs import Ending
from protocol.wire.messages import Award, Cancel, Outcome
from tests.world import World, job_spec, provider_policy
from tests.world_node import Node

Deaf = Callable[[str, str, object], bool]


def world_of(*providers: str, cpus: int = 4, **policy: int) -> tuple[World, Node]:
    """Return a world of providers, the cheapest first, and one honest requester."""
    world = World(1)
    for number, name in enumerate(providers):
        world.add(name, provider_policy(cpu=1_000 + number, cpus=cpus, **policy))
    return world, world.add("ann")


def never_says(who: str, *messages: type) -> Deaf:
    """Return the rule by which nobody hears such messages of peers whose name begins so."""
    return lambda sender, receiver, message: (
        sender.startswith(who) and isinstance(message, messages)
    )


def done(world: World, node: Node, cpus: int = 1) -> bool:
    """Run one job of a node to its end, and say whether it succeeded."""
    job_id = world.submit(node, job_spec(cpus=cpus))
    assert world.run_until(lambda: world.ended(node, job_id))
    return node.job(job_id).ending is Ending.DONE


def test_who_asks_for_a_whole_node_and_never_buys_keeps_nobody_from_working() -> None:
    world, ann = world_of("ben", "cleo")
    eve = world.add("eve")
    world.meet()
    world.drop = never_says("eve", Award, Outcome, Cancel)

    def ask() -> None:
        world.submit(eve, job_spec(cpus=4, retries=0))
        world.after(22_000, ask)

    ask()
    outcomes = []
    for _ in range(12):
        world.run(7_000)
        outcomes.append(done(world, ann))
    assert all(outcomes)


@pytest.mark.parametrize("apart_ms", [0, 3, 8, 12, 100, 1_000])
def test_two_jobs_at_nearly_the_same_time_share_two_small_providers(apart_ms: int) -> None:
    world, ann = world_of("ben", "cleo", cpus=1)
    amy = world.add("amy")
    world.meet()
    jobs = [(ann, world.submit(ann))]
    world.run(apart_ms)
    jobs.append((amy, world.submit(amy)))
    assert world.run_until(lambda: all(world.ended(*job) for job in jobs))
    assert {node.job(job_id).ending for node, job_id in jobs} == {Ending.DONE}
