"""CDI's files are read for what computing needs, and for nothing else.

Spec: specs/gpus.md#assignment.
"""

import json
from pathlib import Path, PurePosixPath

import pytest

from node.sandbox import cdi
from node.sandbox.cdi import edits_for, names_in, read_specs
from tests.node.sandbox.cdi_spec import DRIVER, spec_of, write_spec

LIBRARIES = Path("/usr/lib/nvidia")
SPEC = spec_of(LIBRARIES)
YAML = """---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: GPU-y
kind: nvidia.com/gpu
"""


def test_a_device_gets_its_own_nodes_and_those_of_all():
    edits = edits_for(("GPU-b",), [SPEC])
    assert edits.nodes == ("/dev/nvidia3", "/dev/nvidia-uvm", "/dev/nvidiactl")
    library = f"libcuda.so.{DRIVER}"
    assert edits.files[0] == (
        LIBRARIES / library, PurePosixPath("/usr/lib/x86_64-linux-gnu", library),
    )  # fmt: skip
    assert edits.links == (("libcuda.so.1", PurePosixPath("/usr/lib/x86_64-linux-gnu/libcuda.so")),)


def test_no_job_gets_the_owners_screen():
    nodes = edits_for(("GPU-a", "MIG-c"), [SPEC]).nodes
    assert nodes == (
        "/dev/nvidia0", "/dev/dri/renderD128", "/dev/nvidia-uvm", "/dev/nvidiactl", "/dev/nvidia3",
        "/dev/nvidia-caps/nvidia-cap66",
    )  # fmt: skip


def test_a_device_that_cdi_does_not_name_by_uuid_is_not_served_by_it():
    assert edits_for(("GPU-a", "GPU-z"), [SPEC]) is None


def test_a_later_folder_replaces_an_earlier_one(tmp_path):
    write_spec(tmp_path, Path("/old"))
    write_spec(tmp_path, Path("/new"), "var/run/cdi")
    folders = [tmp_path / folder for folder in cdi.FOLDERS]
    files = dict(edits_for(("GPU-b",), read_specs(folders)).files)
    assert Path(f"/new/libcuda.so.{DRIVER}") in files
    nodes = edits_for(("GPU-b",), read_specs(folders)).nodes
    assert nodes[0] == "/dev/nvidia3"


@pytest.mark.parametrize(
    "text",
    ["no JSON", "[]", '{"kind": "other.com/gpu"}', '{"kind": "nvidia.com/gpu", "devices": 7}',
     '{"kind": "nvidia.com/gpu", "devices": [{"name": "GPU-b", "containerEdits": [1]}]}',
     '{"kind": "nvidia.com/gpu", "containerEdits": {"hooks": "x", "mounts": [{}]}}'],
)  # fmt: skip
def test_a_broken_file_is_not_used_and_stops_nothing(tmp_path, text):
    write_spec(tmp_path, LIBRARIES).write_text(text)
    found = edits_for(("GPU-b",), read_specs([tmp_path / "etc/cdi"]))
    assert found is None or found == cdi.Edits((), (), ())


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch, caplog):
    path = write_spec(tmp_path, LIBRARIES)
    monkeypatch.setattr(cdi, "FILE_BYTES_MAX", 10)
    assert read_specs([path.parent]) == []
    assert "it is too large" in caplog.text


def test_yaml_is_asked_for_as_json(tmp_path, monkeypatch):
    folder = tmp_path / "etc/cdi"
    folder.mkdir(parents=True)
    (folder / "nvidia.yaml").write_text(YAML)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_specs([folder]) == []  # The toolkit is not there.
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(SPEC))
    tool = tmp_path / "nvidia-ctk"  # It stands in for the vendor's tool.
    tool.write_text(f'#!/bin/sh\n[ "$*" = "cdi generate --format json" ] && /bin/cat {answer}\n')
    tool.chmod(0o755)
    assert read_specs([folder]) == [SPEC]
    answer.write_text("no JSON")
    assert read_specs([folder]) == []


def test_all_names_of_both_kinds_of_files(tmp_path):
    path = write_spec(tmp_path, LIBRARIES)
    (path.parent / "more.yaml").write_text(YAML)
    (path.parent / "other.yml").write_text("kind: other\nname: GPU-no\n")
    assert names_in([path.parent, tmp_path / "none"]) == {
        "0", "GPU-a", "GPU-b", "MIG-c", "all", "GPU-y",
    }  # fmt: skip
