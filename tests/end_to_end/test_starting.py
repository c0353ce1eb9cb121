"""Starting a node: what keeps it from starting is one line, and never harms another node.

Spec: specs/configuration.md, specs/identity.md#key-file.
"""

import os
import signal
import stat
import subprocess
import sys

import pytest

from scripts.devnet import devnet
from tests.end_to_end.fixtures import OPEN_NETWORKS, assert_quiet_logs, give_image, newest, refused

LISTEN = "--listen=/ip4/127.0.0.1/tcp/0"


@pytest.fixture(scope="module")
def lone(image):
    """A node without any peer."""
    with devnet("mutirao-e2e-") as network:
        OPEN_NETWORKS.append(network)
        try:
            give_image(network.folder / "lone", image)
            yield network.add("lone")
            assert network.stop() == {"lone": 0}
            assert_quiet_logs(network)
        finally:
            OPEN_NETWORKS.remove(network)


def up(*arguments: str, **environment: str):
    """`mutirao up`, which must not start; return its exit code and what it said."""
    ran = subprocess.run(
        [sys.executable, "-m", "node", "up", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    assert ran.stderr.count("error: ") == 1, ran.stderr
    return ran.returncode, ran.stderr


def test_a_node_alone_says_that_it_has_no_peers(lone):
    asked = ["run", "--queue-timeout=0", "base", "--", "true"]
    refused(lone, *asked, code=6, saying="no other node is known")
    assert newest(lone)["reason"] == "no-peers"


def test_a_second_daemon_on_the_same_folder_leaves_the_first_alone(lone):
    code, said = up(f"--data={lone.data}", LISTEN)
    assert code == 3
    assert f"another daemon (pid {lone.process.pid}) uses {lone.data}" in said
    assert lone.status()["peer_id"] == lone.peer_id
    assert (lone.data / "lock").read_text().strip() == str(lone.process.pid)


def test_a_port_in_use_is_named(lone, tmp_path):
    listen = lone.address.partition("/p2p/")[0]
    code, said = up(f"--data={tmp_path}/data", f"--listen={listen}")
    assert code != 0
    assert listen.rpartition("/")[2] in said
    assert lone.status()["peer_id"] == lone.peer_id


def test_a_socket_left_by_a_crash_is_replaced(lone):
    peer = lone.peer_id
    socket = lone.data / "api.sock"
    lone.kill()
    assert stat.S_ISSOCK(socket.stat().st_mode)
    lone.start()
    lone.wait_ready()
    assert lone.peer_id == peer
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(lone.data.stat().st_mode) == 0o700


def test_what_is_no_socket_is_left_alone(lone, tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data/api.sock").write_text("precious")
    code, said = up(f"--data={tmp_path}/data", LISTEN, MUTIRAO_PROVIDER__ENABLED="false")
    assert code != 0
    assert "api.sock" in said
    assert (tmp_path / "data/api.sock").read_text() == "precious"


@pytest.mark.parametrize(
    "text, saying",
    [
        ("[provider]\ncpu = 2\n", "'provider.cpus'"),
        ("[provdier]\ncpus = 2\n", "provider"),
        ("[provider]\ncpus = 'two'\n", "provider.cpus"),
        ("[provider]\ncpus = 0\n", "provider.cpus"),
        ("[provider\n", "line 1"),
        ("[price]\ncpu_hour = 'much'\n", "price.cpu_hour"),
    ],
)
def test_a_configuration_with_a_fault(tmp_path, text, saying):
    path = tmp_path / "config.toml"
    path.write_text(text)
    code, said = up(f"--config={path}", f"--data={tmp_path}/data", LISTEN)
    assert code == 78
    assert saying in said
    assert str(path) in said or "price" in saying
    assert not (tmp_path / "data/identity.key").exists(), "nothing was begun"


def test_a_misspelt_variable(tmp_path):
    code, said = up(f"--data={tmp_path}/data", LISTEN, MUTIRAO_PROVIDER__CPU="2")
    assert code == 78
    assert "MUTIRAO_PROVIDER__CPU" in said
    assert "cpus" in said


@pytest.mark.parametrize(
    "mode, path, cure", [(0o644, "identity.key", "chmod 600"), (0o755, "", "chmod 700")]
)
def test_a_key_that_others_can_read_is_not_used(tmp_path, mode, path, cure):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "identity.key").touch(mode=0o600)
    (data / "identity.key").write_bytes(bytes(range(32)))
    (data / path).chmod(mode)
    code, said = up(f"--data={data}", LISTEN)
    assert code != 0
    assert cure in said
    assert (data / "identity.key").read_bytes() == bytes(range(32))


def test_a_key_that_is_none_is_not_overwritten(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "identity.key").touch(mode=0o600)
    (data / "identity.key").write_bytes(b"short")
    code, said = up(f"--data={data}", LISTEN)
    assert code != 0
    assert "identity.key" in said
    assert (data / "identity.key").read_bytes() == b"short"


def test_a_database_of_something_else_is_refused(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "node.db").write_bytes(b"this is no database" * 1000)
    code, said = up(f"--data={data}", LISTEN)
    assert code != 0
    assert "node.db" in said
    assert (data / "node.db").read_bytes() == b"this is no database" * 1000


def test_a_signal_while_starting_ends_the_start(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "node", "up", f"--data={tmp_path}/data", LISTEN],
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "data/lock").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert process.returncode in (0, -signal.SIGTERM), said
    assert b"Traceback" not in said
