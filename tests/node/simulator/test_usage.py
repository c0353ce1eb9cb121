"""How long nodes are online and in use.

Spec: specs/simulation-results.md#tables.
"""

import numpy as np

from node.simulator.usage import UsageOfNodes, share_of
from protocol.rules.capacity import Capacity, Device
from protocol.values.ids import JobId
from protocol.wire.job import Resources

ONE, OTHER = JobId(b"1" * 16), JobId(b"2" * 16)
HALF = 500_000


def test_a_node_is_busy_once_and_used_by_each_of_its_jobs():
    usage = UsageOfNodes(np.ones(2, np.bool_))
    usage.begin(ONE, 1, HALF, 100)
    usage.begin(OTHER, 1, HALF // 2, 200)
    usage.end(ONE, 300)
    assert usage.of(1, 400) == (300, 50 + 75 + 25)
    usage.end(OTHER, 500)
    usage.end(OTHER, 600)
    assert usage.of(1, 900) == (400, 50 + 75 + 50)
    assert usage.of(0, 900) == (0, 0)


def test_a_job_that_begins_elsewhere_has_left_its_first_provider():
    usage = UsageOfNodes(np.ones(2, np.bool_))
    usage.begin(ONE, 0, HALF, 0)
    usage.begin(ONE, 1, HALF, 100)
    assert usage.of(0, 300) == (100, 50)
    assert usage.of(1, 300) == (200, 100)


def test_time_online_is_counted_until_now_and_jobs_end_with_their_node():
    usage = UsageOfNodes(np.array([True, True, False]))
    usage.begin(ONE, 1, HALF, 0)
    usage.change(1, False, 100)
    usage.change(2, True, 400)
    usage.change(1, True, 700)
    assert usage.of(1, 1000) == (100, 50)
    assert usage.online_ms(1000) == [1000, 400, 600]
    usage.end(ONE, 1100)
    assert usage.of(1, 1100) == (100, 50)


def test_a_share_is_that_of_the_scarcest_resource():
    total = Capacity(8, 16_384, 100_000, (Device("a", "x", 8192), Device("b", "x", 8192)))
    assert share_of(total, Resources(cpus=2, memory_mib=1024)) == 250_000
    assert share_of(total, Resources(cpus=1, memory_mib=1024, gpus=1)) == 500_000
    assert share_of(total, Resources(cpus=9)) == 1_000_000
