"""Which driver a node uses: Docker if the engine answers and passes, else the embedded one.

Spec: specs/execution.md#drivers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from node.sandbox.docker_driver import DockerDriver
from node.sandbox.driver import Driver, Probe
from node.sandbox.embedded import EmbeddedDriver
from protocol.values.errors import SandboxUnavailable

Preference = Literal["auto", "embedded", "docker"]

HELP: Final = (
    "install and start Docker Engine, or allow user namespaces for the embedded sandbox "
    "(sysctl kernel.apparmor_restrict_unprivileged_userns=0), or set sandbox to off to only request"
)


async def choose_driver(preference: Preference, runs: Path) -> tuple[Driver, Probe]:
    """Return the driver to use, with what its self-test proved.

    `runs` is the folder that holds the run folders. SandboxUnavailable says what to do when no
    driver works.
    """
    candidates: list[Driver] = []
    if preference in {"auto", "docker"}:
        candidates.append(DockerDriver(runs))
    if preference in {"auto", "embedded"}:
        candidates.append(EmbeddedDriver(runs))
    return await first_that_works(candidates)


async def first_that_works(candidates: Sequence[Driver]) -> tuple[Driver, Probe]:
    """Return the first driver that passes its self-test; SandboxUnavailable if none does."""
    complaints = []
    for driver in candidates:
        probe = await driver.check()
        if probe.ok:
            return driver, probe
        complaints.append(f"{driver.name}: {probe.why}")
    raise SandboxUnavailable(f"no sandbox works here ({'; '.join(complaints)}); {HELP}")
