"""The values of the interface.

Spec: specs/network.md.
"""

import subprocess
import sys

from node.network.interface import NetworkConfig, Tuning


def test_naming_the_interface_does_not_import_libp2p():
    code = "import sys, node.network; sys.exit('libp2p' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_dead_peer_is_noticed_within_30_seconds():
    tuning = Tuning()
    assert tuning.ping_every_ms + tuning.ping_timeout_ms < 30_000


def test_the_default_listens_everywhere():
    assert NetworkConfig().listen == ("/ip4/0.0.0.0/tcp/4788",)
