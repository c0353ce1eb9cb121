"""Lenders whose jobs take longer, or less long, than their work says.

A requester pays for no more time than has passed, so only a job that takes longer pays more. The
marketplace simulator golem-des (Golem, 2019) names two such suppliers and speeds that differ.
Spec: specs/simulation-world.md#adversaries.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from node.simulator.containers import WORK, work_of
from node.simulator.seeds import stream
from node.simulator.world.adversaries import Adversaries, AnyCore, Deviation, priced
from node.simulator.world.quantities import Duration, Meaning
from protocol.core.core import Core
from protocol.machines import effects
from protocol.machines.context import Policy
from protocol.machines.effects import Effect
from protocol.machines.inputs import Input

PERCENT: Final = 100


def lasting(launch: effects.Launch, work_ms: int) -> effects.Launch:
    """Return the same launch of a job that needs so much work."""
    return replace(launch, workload=replace(launch.workload, command=(WORK, str(work_ms))))


class Lasting(Deviation, ABC):
    """Lets each job take another time, which a subclass decides."""

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        return [
            lasting(each, self.lasts_ms(each)) if isinstance(each, effects.Launch) else each
            for each in super().handle(event, now_ms)
        ]

    @abstractmethod
    def lasts_ms(self, launch: effects.Launch) -> int:
        """Return how much work a job takes here, in ms of usage."""


class _MoreEachTime(Lasting):
    def __init__(self, core: Core, step_ms: int, most_percent: int) -> None:
        super().__init__(core)
        self._step_ms = step_ms
        self._most_percent = most_percent
        self._launched = 0

    def lasts_ms(self, launch: effects.Launch) -> int:
        idle_ms = self._step_ms * self._launched
        self._launched += 1
        work_ms = work_of(launch.workload)
        most_ms = launch.workload.timeout_ms * self._most_percent // PERCENT
        return max(work_ms, min(work_ms + idle_ms, most_ms))


class _ToTheLimit(Lasting):
    def __init__(self, core: Core, most_percent: int) -> None:
        super().__init__(core)
        self._most_percent = most_percent

    def lasts_ms(self, launch: effects.Launch) -> int:
        most_ms = launch.workload.timeout_ms * self._most_percent // PERCENT
        return max(work_of(launch.workload), most_ms)


class _Uneven(Lasting):
    def __init__(self, core: Core, percent: int) -> None:
        super().__init__(core)
        self._percent = percent

    def lasts_ms(self, launch: effects.Launch) -> int:
        drawn = stream(0, f"uneven/{launch.lease_id.hex()}")
        factor = PERCENT + drawn.randint(-self._percent, self._percent)
        return max(1, work_of(launch.workload) * factor // PERCENT)


@dataclass(frozen=True, slots=True)
class LinearInflation(Adversaries):
    """Lenders that idle in jobs, in each for longer than in the one before."""

    step: Annotated[Duration, Meaning("how much longer each job takes")] = Duration(10_000)
    most_percent: Annotated[int, Meaning("the longest, in percent of the time limit", 1, 99)] = 95

    def corrupt(self, core: Core) -> AnyCore:
        return _MoreEachTime(core, self.step, self.most_percent)


@dataclass(frozen=True, slots=True)
class UndercutBudget(Adversaries):
    """Lenders that ask little, and idle in each job until shortly before its time limit."""

    price_percent: Annotated[int, Meaning("their prices, in percent of their kind's", 1)] = 40
    most_percent: Annotated[int, Meaning("when jobs end, in percent of the limit", 1, 99)] = 95

    def corrupt(self, core: Core) -> AnyCore:
        return _ToTheLimit(core, self.most_percent)

    def policy(self, policy: Policy) -> Policy:
        return priced(policy, self.price_percent)


@dataclass(frozen=True, slots=True)
class Uneven(Adversaries):
    """Lenders that are honest, but whose usage for the same job differs."""

    percent: Annotated[int, Meaning("how far it is from the job's at most", 0, 99)] = 10

    def corrupt(self, core: Core) -> AnyCore:
        return _Uneven(core, self.percent)


OURS: Final[dict[str, type[Any]]] = {
    "linear-inflation": LinearInflation,
    "undercut-budget": UndercutBudget,
    "uneven": Uneven,
}
"""Those of this module by name."""
