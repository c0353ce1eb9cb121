"""The later source wins, and an error says where to look.

Spec: specs/configuration.md#sources.
"""

from pathlib import Path

import pytest

from node import paths
from node.config.sections import Config, ConfigError, NetworkSettings, ProviderSettings
from node.config.sources import explain_config, load_config


@pytest.fixture
def environment(tmp_path: Path, monkeypatch) -> dict[str, str]:
    monkeypatch.setattr(paths, "SYSTEM_FILE", tmp_path / "etc.toml")
    (tmp_path / "home/mutirao").mkdir(parents=True)
    return {"XDG_CONFIG_HOME": str(tmp_path / "home"), "HOME": "/home/ada"}


@pytest.fixture
def system_file(tmp_path: Path) -> Path:
    return tmp_path / "etc.toml"


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    return tmp_path / "home/mutirao/config.toml"


def test_without_any_source_the_defaults_hold(environment) -> None:
    assert load_config(environment=environment) == Config(
        data_dir=Path("/home/ada/.local/share/mutirao")
    )


def test_later_source_wins_key_by_key(environment, system_file: Path, user_file: Path) -> None:
    system_file.write_text("[provider]\ncpus = 1\nmemory_mib = 1000\njobs_max = 1\nregion = ''")
    user_file.write_text("[provider]\ncpus = 2\nmemory_mib = 2000\njobs_max = 2")
    environment |= {"MUTIRAO_PROVIDER__CPUS": "3", "MUTIRAO_PROVIDER__MEMORY_MIB": "3000"}
    config = load_config(environment=environment, flags={"provider.cpus": 4, "data_dir": None})
    assert config.provider == ProviderSettings(cpus=4, memory_mib=3000, jobs_max=2)


def test_file_that_was_asked_for_replaces_the_others(
    environment, system_file: Path, tmp_path: Path
) -> None:
    system_file.write_text("[provider]\ncpus = 1")
    mine = tmp_path / "mine.toml"
    mine.write_text("data_dir = '/data'\n[network]\nlisten = ['/ip4/127.0.0.1/tcp/0']")
    config = load_config(mine, environment)
    assert config == Config(
        data_dir=Path("/data"), network=NetworkSettings(listen=("/ip4/127.0.0.1/tcp/0",))
    )
    assert config.socket == Path("/data/api.sock")


def test_environment_holds_lists_and_top_level_keys(environment) -> None:
    environment |= {"MUTIRAO_NETWORK__LISTEN": "/ip4/1.1.1.1/tcp/1,/ip6/::/tcp/2"}
    environment |= {"MUTIRAO_LOG_LEVEL": "debug"}
    config = load_config(environment=environment)
    assert config.network.listen == ("/ip4/1.1.1.1/tcp/1", "/ip6/::/tcp/2")
    assert config.log_level == "debug"


def test_price_is_kept_as_it_was_written(environment, user_file: Path) -> None:
    user_file.write_text('[price]\ncpu_hour = 0.10\ngpu_hour = "1.5"')
    price = load_config(environment=environment).price
    assert (price.cpu_hour, price.gpu_hour) == ("0.10", "1.5")


@pytest.mark.parametrize(
    "text,message",
    [
        (
            "[provider]\n\ncpu = 1",
            r"config\.toml, line 3: provider\.cpu: there is no such .*mean 'provider\.cpus'\?\)",
        ),
        ("cpus = 1", r"line 1: cpus: there is no such setting \(did you mean 'provider\.cpus'"),
        ("provider = 1", r"line 1: provider: this is a section: write \[provider\]"),
        ("[log_level]\nx = 1", r"line 2: log_level\.x: there is no such setting"),
        (
            "[provider]\ncpus = 0",
            r"line 2: provider\.cpus: 0 should be 1 or more",
        ),
        ("price.floor_percent = 101", r"line 1: price\.floor_percent: 101 should be 100 or less"),
        (
            "provider.sandbox = 'dokcer'",
            r"line 1: provider\.sandbox: 'dokcer' should be .*\(did you mean 'docker'\?\)",
        ),
        ("'log_level' = 'loud'", r"config\.toml: log_level: 'loud' should be 'debug', 'info'"),
        ("a b", r"config\.toml: .*line 1"),
    ],
)
def test_error_says_where_and_what(environment, user_file: Path, text: str, message: str) -> None:
    user_file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(environment=environment)
    assert "\n" not in str(caught.value)


def test_error_names_the_variable_or_the_command_line(environment) -> None:
    with pytest.raises(ConfigError, match=r"\$MUTIRAO_PROVIDER__CPU: provider\.cpu: .*cpus"):
        load_config(environment={**environment, "MUTIRAO_PROVIDER__CPU": "1"})
    with pytest.raises(ConfigError, match=r"command line: log_level: 'x' should be"):
        load_config(environment=environment, flags={"log_level": "x"})
    addresses = ("/ip4/127.0.0.1/tcp/1", "127.0.0.1:2")
    told = r"command line: network\.listen: '/ip4/127\.0\.0\.1/tcp/1', '127\.0\.0\.1:2' should be"
    with pytest.raises(ConfigError, match=told):
        load_config(environment=environment, flags={"network.listen": addresses})


def test_file_that_cannot_be_read_is_told(environment, user_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such file"):
        load_config(tmp_path / "none.toml", environment)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, environment)
    user_file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="utf-8"):
        load_config(environment=environment)


def test_every_setting_is_explained(environment, user_file: Path) -> None:
    user_file.write_text("\n[provider]\ncpus = 2")
    environment["MUTIRAO_LOG_FORMAT"] = "json"
    settings = explain_config(environment=environment, flags={"network.name": "mine"})
    by_key = {setting.key: setting for setting in settings}
    assert all(setting.what for setting in settings)
    assert (by_key["provider.cpus"].value, by_key["provider.cpus"].origin) == (
        2,
        f"{user_file}, line 3",
    )
    assert by_key["log_format"].origin == "$MUTIRAO_LOG_FORMAT"
    assert by_key["network.name"].origin == "command line"
    assert by_key["data_dir"].origin == by_key["storage.blobs_mib"].origin == "default"
    assert by_key["socket"].value == Path("/home/ada/.local/share/mutirao/api.sock")
    assert len(settings) > 30
