"""The policy in bwrap's words.

Spec: specs/sandbox.md#embedded-driver.
"""

from dataclasses import replace
from pathlib import Path

from node.sandbox.bwrap import Extra, Host, readable, record_of
from tests.node.sandbox.conftest import launch_of, workload

HOST = Host(Path("/b/bwrap"), Path("/b/libs"), ("/proc/keys",), 1_900_000_000, None,
            Path("/run/disk"), frozenset({"memory", "pids", "cpu"}))  # fmt: skip
NOTHING = Extra()


def record(host=HOST, extra=NOTHING, **fields):
    launch = launch_of(workload("run", "-x"), image="/data/rootfs", **fields)
    return record_of(launch, host, extra, "mutirao/me/name")


def one(pairs, key):
    return next((value for name, value in pairs if name == key), None)


def options(pairs):
    return [value for name, value in pairs if name in {"arg", "path"}]


def test_all_walls_are_up():
    words = options(record())
    for wall in ("user", "ipc", "pid", "net", "uts"):
        assert f"--unshare-{wall}" in words
    assert {"--disable-userns", "--die-with-parent", "--new-session", "--clearenv"} <= set(words)
    assert words[words.index("--cap-drop") + 1] == "ALL"
    written = [words[at + 1] for at, word in enumerate(words) if word == "--bind"]
    assert written == ["/run/disk/out", "/run/disk/tmp", "/run/disk/scratch"]  # Its own disk alone.


def test_command_is_no_option():
    assert not {"run", "-x"} & {value for _, value in record()}  # It has fields of its own.


def test_inputs_and_extras_are_read_only_and_by_path():
    extra = Extra(("/dev/nvidia0",), ((Path("/usr"), "/usr"),), (("K", "v"),))
    pairs = record(extra=extra, inputs=(("a/b", Path("/blobs/1")),))
    assert [value for key, value in pairs if key == "path"] == [
        "/data/rootfs", "/usr", *(f"/run/disk/{part}" for part in ("out", "tmp", "scratch")),
        "/blobs/1"]  # fmt: skip
    words = options(pairs)
    assert words[words.index("/blobs/1") - 1 : words.index("/blobs/1") + 2] == [
        "--ro-bind", "/blobs/1", "/in/a/b"]  # fmt: skip
    assert words[words.index("/dev/nvidia0") - 1] == "--dev-bind"
    assert words.index("/dev/nvidia0") < words.index("--remount-ro")
    assert words[words.index("K") + 1] == "v"


def test_a_gpus_libraries_find_a_folder_that_can_still_be_made():
    """The root is read-only: what goes below /dev is bound after it is there, before it closes."""
    library = Path("/driver/libcuda.so.1")
    words = options(record(extra=Extra(binds=((library, "/dev/nvidia-libraries/libcuda.so.1"),))))
    bound = words.index("/dev/nvidia-libraries/libcuda.so.1")
    assert words.index("--dev") < bound < words.index("--remount-ro")


def test_folders_in_memory_have_sizes():
    assert one(record(), "fsize") == str(64 << 20)
    words = options(record(replace(HOST, disk=None)))
    sizes = (("/tmp", 16), ("/scratch", 16), ("/out", 2), ("/dev/shm", 32))
    for folder, mib in sizes:
        place = words.index(folder)
        assert words[place - 2 : place] == [str(mib << 20), "--tmpfs"]


def test_numbers():
    pairs = record()
    assert one(pairs, "uid") == "1900000000"
    assert one(pairs, "processes") == "18"
    assert one(pairs, "as") is None
    assert one(pairs, "nproc") is None
    assert one(pairs, "cgroup") == "mutirao/me/name"
    assert one(pairs, "library") == "/b/libs"


def test_without_control_groups_the_address_space_is_bounded():
    soft = replace(HOST, hard=frozenset(), processes_max=99, library=None, user=None)
    pairs = record(soft)
    assert one(pairs, "as") == str(64 << 20)
    assert one(pairs, "nproc") == "99"
    assert one(pairs, "nofile") == "256"  # Each may be a socket with 256 KiB.
    assert one(record(), "nofile") == "1024"
    assert (one(pairs, "uid"), one(pairs, "library")) == (None, None)
    assert one(record(soft, gpus=("GPU-1",)), "as") is None


def test_only_what_strangers_may_read_is_masked(tmp_path):
    for name, mode in (("open", 0o444), ("private", 0o400)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    paths = [str(tmp_path / name) for name in ("open", "private", "none")]
    assert readable(paths) == (paths[0],)
