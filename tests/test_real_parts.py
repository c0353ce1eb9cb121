"""What scripts/real_parts.sh does for the tests, and what it leaves alone.

Spec: specs/overview.md#tests.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root installs parts")


@pytest.fixture
def sourced(tmp_path):
    """Source the script with stand-ins for apt-get and dockerd; return what it printed."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def source(*lines: str, ci: str = "true", **stand_ins: str) -> str:
        for name, code in stand_ins.items():
            program = programs / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{code}\n")
            program.chmod(0o755)
        script = "\n".join(
            ["set -euo pipefail", ". scripts/real_parts.sh", *lines, 'echo "$parts"']
        )
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock",
            "CI": ci,
        }
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, text=True,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        told, parts = done.stdout.rstrip("\n").rpartition("\n")[::2]
        assert not Path(parts).exists()
        return told

    return source


@needs_root
def test_a_part_that_cannot_be_installed_is_skipped_with_the_reason(sourced, tmp_path):
    told = sourced(
        "real_part chess no-such-program deep-blue",
        'echo "$MISSING_CHESS"',
        apt_get=f'echo "$@" >>{tmp_path}/asked; echo "E: Unable to locate package" >&2; exit 100',
        dockerd="exit 1",
    )
    assert told == "apt-get could not install deep-blue: E: Unable to locate package"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[-2:] for line in asked][-2:] == [
        ["install", "deep-blue"],
        ["DPkg::Lock::Timeout=120", "update"],
    ]


@needs_root
def test_an_engine_that_does_not_start_is_skipped_with_the_reason(sourced):
    told = sourced('echo "$MISSING_DOCKER"', dockerd="echo no such kernel >&2; exit 1")
    assert told == "dockerd does not answer: no such kernel"


def test_elsewhere_nothing_is_installed_or_started(sourced, tmp_path):
    leave_mark = f"touch {tmp_path}/called"
    told = sourced("real_part chess no-such-program deep-blue", "env", ci="",
                   apt_get=leave_mark, dockerd=leave_mark)  # fmt: skip
    assert "MISSING_" not in told
    assert not (tmp_path / "called").exists()


@pytest.mark.docker
@needs_root
@pytest.mark.skipif(os.environ.get("CI") != "true", reason="no engine is started outside CI")
@pytest.mark.skipif(shutil.which("dockerd") is None, reason="there is no dockerd here")
def test_an_engine_that_was_started_is_used_and_stopped(sourced):
    told = sourced(
        "docker_answers && echo yes",
        "was=$DOCKER_HOST; start_docker; [ $DOCKER_HOST = $was ] && echo the same",
        'echo "${started[@]}"',
    )
    assert told.splitlines()[:2] == ["yes", "the same"]
    assert not Path(f"/proc/{told.split()[-1]}").exists()
