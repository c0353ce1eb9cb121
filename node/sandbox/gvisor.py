"""The driver for owners who installed gVisor: Docker's containers on a kernel of their own.

The engine's runtime `runsc` answers a job's system calls in a process of its own, so that few of
them reach the machine's kernel.

Spec: specs/sandbox.md#gvisor-driver.
"""

from typing import Final

from node.sandbox.docker_driver import DockerDriver
from protocol.values.isolation import Isolation

RUNSC: Final = "runsc"
KERNEL_THREADS: Final = 128
"""The threads of gVisor's kernel count as the job's processes."""


class GvisorDriver(DockerDriver):
    """Containers of the engine at DOCKER_HOST, in the runtime runsc."""

    name = "gvisor"
    isolation = Isolation.GVISOR.value
    runtime = RUNSC
    own_processes = KERNEL_THREADS

    def soft_limits(self) -> frozenset[str]:
        """Return `pids`: a job gets what gVisor's kernel leaves of its own allowance, too."""
        return frozenset({"pids"})
