"""A simulated node may be busy with each thing that it is given.

Spec: specs/simulation.md#nodes.
"""

from tests.node.simulator.small_world import SmallWorld, equal_world
from tests.node.simulator.test_network import told


def test_a_node_processes_one_thing_after_the_other_and_loses_them_when_it_goes() -> None:
    world = SmallWorld(equal_world())
    world.network.processing = 25
    node, done = world.network.nodes[0], []
    began = world.network.engine.now
    for name in "ab":
        world.network.process(node, lambda name=name: done.append((name, world.network.engine.now)))
    world.run(3)
    assert done == [("a", began + 25)]
    world.change(0, online=False)
    world.change(0, online=True)
    world.run(100)
    assert [name for name, _ in done] == ["a"]
    world.network.process(node, done.append, ("c", 0))
    assert world.network.occupy(node) == 50
    world.run(5)
    assert done[-1] == ("c", 0)


def test_processing_delays_a_job_and_changes_nothing_of_its_way() -> None:
    names, ends = [], []
    for processing in (0, 50):
        world = SmallWorld(equal_world())
        world.network.processing = processing
        job_id = world.submit()
        assert world.run_until(lambda job_id=job_id, world=world: world.ended(job_id))
        names.append(told(world.names(job_id)))
        ends.append(world.network.engine.now)
    assert names[0] == names[1]
    assert ends[1] > ends[0] + 8 * 50
