"""The defaults are what the documentation says, and every setting explains itself.

Spec: specs/configuration.md#settings.
"""

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from node.config.sections import REGIONS, Config, ConfigError
from protocol.values.errors import InvalidRequest

ROOT = Path(__file__).parents[3]


def test_defaults() -> None:
    config = Config(data_dir=Path("/data"))
    assert config.socket == Path("/data/api.sock")
    assert (config.log_level, config.log_format) == ("info", "auto")
    assert config.network.name == "mutirao"
    assert config.network.listen == ("/ip4/0.0.0.0/tcp/4788",)
    assert config.provider.enabled
    assert (config.provider.gpus, config.provider.region) == ("all", "")
    assert config.provider.cpus is None
    assert config.price.gpu_hour == "0.50"
    assert config.requester.retries == 2
    assert config.storage.blobs_mib == 20_480


def test_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().log_level = "debug"


def test_socket_that_the_system_cannot_bind_is_refused() -> None:
    with pytest.raises(ConfigError, match="set socket to a shorter path") as caught:
        Config(data_dir=Path("/" + "x" * 120))
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.code == "config"


def test_regions_have_their_numbers_on_the_wire() -> None:
    assert REGIONS[0] == "north-america"
    assert REGIONS.index("oceania") + 1 == 9
    assert len(REGIONS) == len(set(REGIONS)) == 10


@pytest.mark.slow
def test_import_is_light() -> None:
    """The command line reads the configuration at every start."""
    code = "import sys, node.config; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"trio", "asyncio", "pydantic", "libp2p", "logging", "subprocess"}
    assert not heavy & set(result.stdout.split())
