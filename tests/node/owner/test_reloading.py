"""The configuration is read again while the node runs. Spec: specs/owner.md#reload."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.config import Config, ConfigError, load_config
from node.config.sections import ProviderSettings
from node.owner.activity import OwnerActivity
from node.owner.conditions import Conditions, Sensors
from node.owner.heat import PowerMeter
from node.owner.reloading import ConfigSource, Reloader
from node.storage.journal import Journal
from protocol.core.core import Core
from protocol.machines.context import Policy
from protocol.machines.inputs import PolicyChanged
from protocol.values.errors import Conflict
from tests.driven import POLICY
from tests.node.owner.test_control import Inbox, begun
from tests.strategies import SIGNERS


@pytest.fixture
def level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


class Running:
    """A node's part that reads a file of the test."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.file = folder / "config.toml"
        self.file.write_text("")
        self.inbox = Inbox()
        self.control = begun(self.inbox, journal, replace(POLICY, addresses=("/ip4/1",)))
        core = Core(SIGNERS[0], POLICY)
        sensors = Sensors(dict, OwnerActivity(folder, folder), PowerMeter(folder))
        self.conditions = Conditions(ProviderSettings(), self.control, core, sensors)
        source = ConfigSource(self.read, self.policy_of)
        self.reloader = Reloader(self.read(), source, self.control, self.conditions)

    def read(self) -> Config:
        return load_config(self.file, {})

    def policy_of(self, config: Config) -> Policy:
        return replace(POLICY, jobs_max=config.provider.jobs_max)


@pytest.fixture
def running(tmp_path: Path, journal: Journal, level: None) -> Running:
    return Running(tmp_path, journal)


async def test_what_can_applies_at_once_and_the_rest_is_named(running: Running) -> None:
    running.file.write_text('[provider]\njobs_max = 3\nhours = "mon"\nregion = "europe"\n')
    changed = await running.reloader.reload()
    assert {one.key: one.is_live for one in changed} == {
        "provider.jobs_max": True, "provider.hours": True, "provider.region": False,
    }  # fmt: skip
    (told,) = running.inbox.taken
    assert isinstance(told, PolicyChanged)
    assert (told.policy.jobs_max, told.policy.addresses) == (3, ("/ip4/1",))
    await running.conditions.check()
    assert [one.rule for one in running.conditions.known] == ["provider.hours"]
    assert [one.key for one in await running.reloader.reload()] == ["provider.region"]


async def test_a_fault_leaves_everything_as_it_was(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.file.write_text("[provider]\njobs_max = 3\nhours = 5\n")
    with pytest.raises(ConfigError, match=r"config.toml, line 3: provider.hours: 5 should be a l"):
        await running.reloader.reload()
    await running.reloader.reload_and_log()
    assert "the configuration stays as it was" in caplog.text
    assert running.inbox.taken == []
    assert running.reloader.config.provider.jobs_max == 8


async def test_a_node_without_a_source_says_so(running: Running) -> None:
    alone = Reloader(running.read(), None, running.control, running.conditions)
    with pytest.raises(Conflict, match="read again"):
        await alone.reload()
