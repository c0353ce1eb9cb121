"""Commands that need no daemon. Spec: specs/configuration.md."""

from node.cli.program import run
from node.config import ConfigError, load_config
from tests.node.cli.conftest import run_cli


def test_config(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[provider]\nregion = "europe"\n')
    text = run_cli("config", "--config", file, "--data", tmp_path).out
    assert text.startswith(f"# {file}: read\n")
    assert f'data_dir = "{tmp_path}"  # the folder of this node: key, ' in text
    assert "database, blobs [command line]\n" in text
    assert 'provider.region = "europe"  # this machine' in text
    assert f"[{file}, line 2]" in text
    assert "# provider.cpus = not set  # processors to lend; all if not set [default]" in text
    lines = {each["key"]: each for each in run_cli("config", "--config", file, "--json").lines}
    assert lines["provider.region"]["value"] == "europe"
    assert str(file) in lines["provider.region"]["origin"]


def test_which_files_were_looked_for(tmp_path):
    mine = tmp_path / "mutirao" / "config.toml"
    mine.parent.mkdir()
    look = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert f"# {mine}: not there\n" in run_cli("config", **look).out
    mine.write_text("")
    text = run_cli("config", **look).out
    assert f"# {mine}: read\n" in text
    assert text.startswith("# /etc/mutirao/config.toml: ")


def test_what_it_prints_is_a_configuration_itself(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('data_dir = "/x/é"\nprovider.gpus = ["GPU-1"]\nprice.gpu_hour = 2\n')
    printed = tmp_path / "printed.toml"
    printed.write_text(run_cli("config", "--config", file).out)
    assert load_config(printed, {}) == load_config(file, {})


def test_reload(cli, daemon, monkeypatch):
    live, later = cli("config", "reload").out.splitlines()
    assert live == "price.cpu_hour: 0.01 -> 0.02"
    assert later.startswith("provider.region: not set -> europe (needs a restart: ")
    assert [line["applies"] for line in cli("config", "reload", "--json").lines] == [True, False]

    async def refuse():
        raise ConfigError("config.toml, line 3: provider.hours: 5 should be a list")

    monkeypatch.setattr(daemon.service, "reload", refuse)
    told = cli("config", "reload")
    assert told.code == 78
    assert told.err.startswith("error: config.toml, line 3: provider.hours: 5 should be a list")


def test_version(capsys):
    assert run(["version"]) == 0
    assert capsys.readouterr().out == "mutirao 0.1.0, protocol 1\n"
