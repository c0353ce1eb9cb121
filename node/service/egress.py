"""What jobs of others reached, as the API shows it.

Spec: specs/egress.md#log.
"""

from dataclasses import asdict, dataclass

from node.egress.log import EgressLog
from node.rpc.egress_views import ReachedView


@dataclass(slots=True)
class EgressService:
    """Implements node.rpc.service.EgressApi."""

    log: EgressLog

    async def reached(self, lease: str, limit: int) -> tuple[ReachedView, ...]:
        return tuple(ReachedView(**asdict(one)) for one in await self.log.newest(lease, limit))
