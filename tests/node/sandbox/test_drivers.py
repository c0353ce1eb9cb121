"""The table of sandbox drivers is the only list of them: all others are read from it.

Spec: specs/sandbox.md#drivers.
"""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from node.config import load_config
from node.config.sections import ConfigError
from node.sandbox import choice, drivers
from node.sandbox.driver import Probe
from node.sandbox.embedded import EmbeddedDriver
from node.sandbox.runner_driver import RunnerDriver
from scripts import bench, probe

ROOT = Path(__file__).parents[3]


class Third(EmbeddedDriver):
    """A driver that nobody has heard of."""

    name = "third"

    async def check(self):
        return Probe(ok=True, why="")


@pytest.mark.parametrize("name", drivers.DRIVERS)
def test_a_row_names_a_driver_and_the_module_that_starts_its_containers(name, tmp_path):
    driver = choice.make_driver(name, tmp_path, 64)
    assert isinstance(driver, RunnerDriver)
    assert driver.name == name
    assert callable(import_module(f"node.sandbox.runner.{driver.runner}").start)


async def test_a_third_driver_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setitem(drivers.DRIVERS, "third", f"{__name__}:Third")
    found = await choice.choose_driver("third", tmp_path, 64)
    assert (found.driver.name, found.why.partition(";")[0]) == (
        "third",
        "provider.sandbox asks for it",
    )
    assert isinstance(choice.make_driver("third", tmp_path, 64), Third)


@pytest.mark.parametrize("name", [drivers.AUTO, *drivers.DRIVERS])
def test_the_configuration_takes_each_and_is_described(name):
    assert load_config(environment={}, flags={"provider.sandbox": name}).provider.sandbox == name
    row = next(
        line for line in (ROOT / "specs/configuration.md").read_text().splitlines()
        if line.startswith("| `provider.sandbox` |")
    )  # fmt: skip
    assert f"`{name}`" in row.split("|")[2]


def test_the_configuration_takes_no_other():
    with pytest.raises(ConfigError, match="'auto', 'docker', 'embedded', 'gvisor'"):
        load_config(environment={}, flags={"provider.sandbox": "podman"})


@pytest.mark.parametrize("main, words", [(probe.main, ["--help"]), (bench.main, ["job", "--help"])])
def test_scripts_offer_each(main, words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script", *words])
    with pytest.raises(SystemExit):
        main()
    assert f"{{{','.join(drivers.DRIVERS)}}}" in capsys.readouterr().out
