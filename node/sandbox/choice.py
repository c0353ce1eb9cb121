"""Which driver a node uses: the first of the table that passes its self-test, or the one it names.

The choice is made and logged once, when a node starts. A container stays with the driver that
started it, even if the node uses another one now.

Spec: specs/sandbox.md#drivers.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

import trio

from node.sandbox import runfolder
from node.sandbox.driver import (
    RESOURCE_LIMITS,
    ContainerSpec,
    Exit,
    ImageSource,
    Probe,
    SandboxDriver,
)
from node.sandbox.drivers import AUTO, AUTO_ORDER, DRIVERS
from node.sandbox.runner_driver import RunnerDriver
from protocol.values.errors import SandboxUnavailable

HELP: Final = (
    "install and start Docker Engine, or allow user namespaces for the embedded sandbox "
    "(sysctl kernel.apparmor_restrict_unprivileged_userns=0), or set provider.enabled = false to "
    "request only"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The driver that a node uses, what its self-test proved, and in one line why this one."""

    driver: SandboxDriver
    probe: Probe
    why: str

    @property
    def soft_limits(self) -> tuple[str, ...]:
        """Return the limits of jobs that are not the kernel's."""
        return tuple(limit for limit in RESOURCE_LIMITS if limit not in self.probe.limits)


class ChosenDriver:
    """The driver for new containers; containers of an earlier run stay with their own driver."""

    def __init__(self, driver: SandboxDriver, others: Sequence[SandboxDriver], runs: Path) -> None:
        """Take the chosen driver, the others, and the folder of all run folders."""
        self.name = driver.name
        self.isolation = driver.isolation
        self._driver = driver
        self._others = others
        self._runs = runs

    async def check(self) -> Probe:
        return await self._driver.check()

    async def prepare(self, image: ImageSource) -> str:
        return await self._driver.prepare(image)

    async def take_over(self, folder: Path) -> bool:
        return await self._of(folder).take_over(folder)

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        await self._of(folder).start(spec, folder)

    async def wait(self, folder: Path) -> Exit:
        return await self._of(folder).wait(folder)

    def usage_ms(self, folder: Path) -> int:
        return self._of(folder).usage_ms(folder)

    async def check_egress(self) -> str:
        return await self._driver.check_egress()

    async def proxy_listener(self, folder: Path) -> socket.socket:
        return await self._of(folder).proxy_listener(folder)

    async def copy_checkpoint(self, folder: Path, path: str, mark: bytes) -> bytes:
        return await self._of(folder).copy_checkpoint(folder, path, mark)

    async def terminate(self, folder: Path) -> None:
        await self._of(folder).terminate(folder)

    async def kill(self, folder: Path) -> None:
        await self._of(folder).kill(folder)

    async def extend(self, folder: Path, budget_ms: int) -> None:
        await self._of(folder).extend(folder, budget_ms)

    async def remove(self, folder: Path) -> None:
        await self._of(folder).remove(folder)

    async def reap(self, names: frozenset[str]) -> None:
        folders = [self._runs / entry.name for entry in await trio.Path(self._runs).iterdir()]
        left = {runfolder.driver_in(folder) for folder in folders}
        try:
            for driver in self._others:
                if driver.name in left:
                    await driver.reap(names)
        finally:  # The other driver may be unavailable.
            await self._driver.reap(names)

    def _of(self, folder: Path) -> SandboxDriver:
        """Return the driver that the folder's container was started with."""
        name = runfolder.driver_in(folder)
        return next((other for other in self._others if other.name == name), self._driver)


async def choose_driver(preference: str, runs: Path, unpacked_mib: int) -> Choice:
    """Return the driver to use, with what its self-test proved.

    `preference` is AUTO or a driver's name; for the rest see `make_driver`. SandboxUnavailable says
    what to do when no driver works.
    """
    drivers = [make_driver(name, runs, unpacked_mib) for name in DRIVERS]
    names = AUTO_ORDER if preference == AUTO else (preference,)
    wanted = [driver for name in names for driver in drivers if driver.name == name]
    choice = await first_that_works(wanted)
    others = [driver for driver in drivers if driver is not choice.driver]
    return Choice(ChosenDriver(choice.driver, others, runs), choice.probe, choice.why)


def make_driver(name: str, runs: Path, unpacked_mib: int) -> RunnerDriver:
    """Return a new driver of the table.

    `runs` is the folder that holds the run folders; `unpacked_mib` bounds the images that an engine
    keeps for us.
    """
    module, _, kind = DRIVERS[name].partition(":")
    driver: RunnerDriver = getattr(import_module(module), kind)(runs, unpacked_mib)
    return driver


async def first_that_works(candidates: Sequence[SandboxDriver]) -> Choice:
    """Return the first driver that passes its self-test; SandboxUnavailable if none does."""
    complaints: list[str] = []
    for driver in candidates:
        probe = await driver.check()
        if probe.ok:
            if len(candidates) == 1:
                why = "provider.sandbox asks for it"
            elif complaints:
                why = f"the other does not work here: {'; '.join(complaints)}"
            else:
                why = "it works here, and provider.sandbox = auto tries it first"
            return Choice(driver, probe, f"{why}; hard limits: {', '.join(probe.limits) or 'none'}")
        complaints.append(f"{driver.name}: {probe.why}")
    raise SandboxUnavailable(f"no sandbox works here ({'; '.join(complaints)}); {HELP}")
