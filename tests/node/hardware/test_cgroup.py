"""The smallest limit on the way to the root counts, in both generations of control groups.

Spec: specs/capability.md#resources.
"""

from pathlib import Path

import pytest

from node.hardware.cgroup import CgroupLimits, cgroup_limits


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    "files,expected",
    [
        ({}, CgroupLimits(None, None)),
        (
            {
                "proc/self/cgroup": "0::/user.slice/app.service",
                "sys/fs/cgroup/user.slice/app.service/cpu.max": "max 100000",
                "sys/fs/cgroup/user.slice/app.service/memory.max": "max",
            },
            CgroupLimits(None, None),
        ),
        (
            {
                "proc/self/cgroup": "0::/user.slice/app.service",
                "sys/fs/cgroup/user.slice/app.service/cpu.max": "350000 100000",
                "sys/fs/cgroup/user.slice/app.service/memory.max": "4000",
                "sys/fs/cgroup/user.slice/cpu.max": "150000 100000",
                "sys/fs/cgroup/user.slice/memory.max": "9000",
            },
            CgroupLimits(1500, 4000),
        ),
        (  # A container without a namespace of its own: the path is the host's.
            {"proc/self/cgroup": "0::/docker/abc", "sys/fs/cgroup/memory.max": "5000"},
            CgroupLimits(None, 5000),
        ),
        (
            {"proc/self/cgroup": "0::/../../x", "sys/fs/cgroup/cpu.max": "50000 100000"},
            CgroupLimits(500, None),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc",
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "7000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            CgroupLimits(2000, 7000),
        ),
    ],
)
def test_least_limit_counts(tmp_path: Path, files: dict[str, str], expected: CgroupLimits) -> None:
    assert cgroup_limits(tree(tmp_path, files)) == expected


def test_this_machine_can_be_read() -> None:
    limits = cgroup_limits()
    assert limits.memory_bytes is None or limits.memory_bytes > 0
