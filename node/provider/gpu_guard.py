"""Takes GPUs in trouble off what the node lends, and ends the jobs on those that vanished.

Spec: specs/capability.md#gpu-trouble.
"""

from node.driver.driver import Inbox
from node.hardware.telemetry import GpuTelemetry
from node.provider.executions import Executions
from protocol.machines.inputs import DevicesWithheld


class GpuGuard:
    """Acts upon what the telemetry of GPUs finds."""

    def __init__(self, telemetry: GpuTelemetry, executions: Executions, inbox: Inbox) -> None:
        self._telemetry = telemetry
        self._executions = executions
        self._inbox = inbox

    async def run(self) -> None:
        """Act upon each change, until cancelled."""
        withheld: frozenset[str] = frozenset()
        while True:
            changed = self._telemetry.changed
            troubled = frozenset(self._telemetry.troubles)
            if troubled != withheld:
                withheld = troubled
                # First: a job that is lost must not win its GPU again.
                await self._inbox.take(DevicesWithheld(withheld))
            self._executions.lose(self._telemetry.lost)
            await changed.wait()
