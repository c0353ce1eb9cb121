"""A gang of a requester in a simulated network, for tests.

Spec: specs/gangs.md.
"""

from protocol.core.jobs import Ending
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

JOB_MS = 30_000


class Gang:
    """A gang of a requester among providers with one processor each."""

    def __init__(self, nodes: int = 3, providers: int = 3, **terms: int) -> None:
        self.network = SimulatedNetwork(job_ms=JOB_MS)
        self.providers = [
            self.network.add(f"p{number}", provider_policy(cpu=1_000 + number, cpus=1))
            for number in range(providers)
        ]
        self.ann = self.network.add("ann")
        self.network.meet()
        self.members = self.network.submit_gang(self.ann, job_spec(nodes=nodes, **terms))

    def events(self, rank: int, kind: type) -> list[object]:
        happened = self.ann.disk.events.get(self.members[rank], [])
        return [event for event in happened if isinstance(event, kind)]

    def ended(self) -> bool:
        return all(self.network.ended(self.ann, member) for member in self.members)

    def endings(self) -> set[Ending]:
        return {self.ann.job(member).ending for member in self.members}

    def run(self, limit_ms: int = 120_000) -> None:
        assert self.network.run_until(self.ended, limit_ms)
        self.network.run(60_000)
        self.check_nothing_is_held()

    def until(self, kind: type, rank: int = 0) -> None:
        assert self.network.run_until(lambda: bool(self.events(rank, kind)))

    def check_nothing_is_held(self) -> None:
        requester = self.ann.core.requester
        assert not requester.leases.states
        assert not requester.jobs
        assert not requester.scheduler.awards.states
        for node in filter(lambda node: node.online, self.providers):
            assert node.core.provider.left(node.policy.capacity) == node.policy.capacity


def launched(nodes: list[Node]) -> int:
    return sum(len(node.launched) for node in nodes)
