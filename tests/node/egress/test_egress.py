"""What an owner allows, and jobs that want more.

Real containers are in tests/node/sandbox/test_egress.py.

Spec: specs/egress.md#matching.
"""

from pathlib import Path
from typing import Any

import pytest
import trio

from node.config import ProviderSettings
from node.egress.egress import names_of
from protocol.values.errors import SandboxUnavailable
from protocol.wire.job import Workload
from tests.node.fixtures import ObedientSandbox, egress_of, launch_of


def job(*names: str) -> Workload:
    return Workload(bytes(32), ("true",), egress=names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings,names",
    [
        ({}, ()),
        ({"egress": "any"}, ("any",)),
        ({"egress": "listed", "egress_names": ("pypi", "a.org")},
         ("pypi.org", "files.pythonhosted.org", "a.org")),
        ({"egress": "listed", "egress_names": ()}, ()),
    ],
)  # fmt: skip
def test_the_names_that_an_owner_allows(settings: dict[str, Any], names: tuple[str, ...]) -> None:
    assert names_of(ProviderSettings(**settings)) == names


async def test_a_job_that_wants_more_is_refused(tmp_path: Path) -> None:
    egress = egress_of(tmp_path, "a.org", "*.b.org")
    egress.require(job())
    egress.require(job("a.org", "x.b.org"))
    for names in (("c.org",), ("b.org",), ("any",)):
        with pytest.raises(SandboxUnavailable, match=names[0]):
            egress.require(job("a.org", *names))


async def test_a_container_that_has_ended_needs_no_proxy(tmp_path: Path) -> None:
    sandbox = ObedientSandbox()
    sandbox.refuses = SandboxUnavailable("it has ended")
    async with egress_of(tmp_path, "any").serving(launch_of(job("a")), sandbox, tmp_path):
        await trio.testing.wait_all_tasks_blocked()


async def test_a_job_without_names_has_no_proxy(tmp_path: Path) -> None:
    sandbox = ObedientSandbox()
    async with egress_of(tmp_path, "any").serving(launch_of(job()), sandbox, tmp_path):
        await trio.testing.wait_all_tasks_blocked()
    assert not sandbox.listeners
