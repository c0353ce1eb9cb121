"""Work in a mount namespace that ends with it.

Spec: specs/disk.md#kinds.
"""

import tempfile
import threading
from pathlib import Path

import pytest

from node.sandbox import job_disks
from node.sandbox.runner import mounts


def in_namespace(act):
    """Carry out what needs mounts, in a thread with a namespace of its own."""
    if not job_disks.can_mount(Path(tempfile.gettempdir())):
        pytest.skip("needs root, mkfs.ext4 and loop devices")
    faults = []

    def run():
        try:
            mounts.own_namespace()
            act()
        except BaseException as fault:  # noqa: BLE001 - raised again where the test is.
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
