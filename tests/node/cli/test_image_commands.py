"""Commands about images. Spec: specs/rpc.md#command-line."""

from protocol.values.errors import InvalidRequest
from tests.node.rpc.recorded import BASE


def test_import(cli, tmp_path):
    (tmp_path / "py.tar").write_bytes(b"x")
    found = cli("image", "import", "py.tar")  # Relative to the user's folder, not the daemon's.
    assert found.code == 0
    assert "names   py\n" in found.out
    assert cli("image", "import", "py.tar", "--json").json["digest"] == BASE
    assert cli("image", "import", "none.tar").code == 2


def test_a_file_that_is_no_image_is_named(cli, daemon, monkeypatch, tmp_path):
    (tmp_path / "passwd").write_text("root")

    async def refuse(path):
        raise InvalidRequest("it is not a tar archive")

    monkeypatch.setattr(daemon.service, "import_path", refuse)
    found = cli("image", "import", "passwd")
    assert (found.code, found.out) == (5, "")
    first, second = found.err.splitlines()
    assert first == "error: passwd: it is not a tar archive"
    assert "docker save" in second


def test_pull(cli):
    found = cli("image", "pull", "python:3.12", "--platform", "linux/arm64")
    assert (found.code, found.err) == (
        0, f"docker.io/python:3.12 is sha256:{BASE} (linux/arm64)\n",
    )  # fmt: skip
    assert f"digest  {BASE}\n" in found.out
    lines = cli("image", "pull", "python:3.12", "--json").lines
    assert [next(iter(line)) for line in lines] == ["found", "progress", "progress", "image"]


def test_build(cli, tmp_path):
    (tmp_path / "Team").mkdir()
    found = cli("image", "build", "Team")
    assert (found.code, found.err) == (0, "Step 1/1 : FROM Dockerfile\n")
    assert found.out.startswith("names   team\n")
    lines = cli("image", "build", "Team", "--name", "x", "--file", "D", "--json").lines
    assert lines[0] == {"log": "Step 1/1 : FROM D"}
    assert lines[1]["image"]["names"] == ["x"]
    broken = cli("image", "build", "Team", "--name", "broken")
    assert (broken.code, broken.err.splitlines()[1]) == (
        5, "error: the build failed: no such base",
    )  # fmt: skip


def test_a_pull_that_fails(cli):
    absent = cli("image", "pull", "absent")
    assert (absent.code, absent.out) == (4, "")
    assert absent.err == "error: docker.io has no library/absent:latest: check the tag\n"
    broken = cli("image", "pull", "broken", "--json")
    assert broken.code == 1
    assert '"blob-unavailable"' in broken.err


def test_build_base_and_list(cli):
    assert BASE in cli("image", "build-base").out
    listed = cli("image", "list")
    assert listed.out.splitlines()[1].split() == [
        "base", BASE, "28.6", "MiB", "2027-01-15", "08:00:00Z",
    ]  # fmt: skip
    assert cli("image", "list", "--json").lines[0]["names"] == ["base"]
