"""pip in a container, with the package index of this machine, through the proxy of the node.

Spec: specs/egress.md#proxy.
"""

import os
import ssl
import subprocess
import sys
import urllib.request
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from node.egress.addresses import Resolver, is_open
from node.sandbox.selftest import python_command
from protocol.values.egress import expanded
from protocol.wire.job import EnvVar
from tests.node.sandbox.conftest import Room, workload
from tests.node.sandbox.test_egress import egress_of, run

PACKAGE = "iniconfig"


def configured(name: str) -> str:
    """Return a setting of pip, empty if there is none."""
    command = (f"{sys.base_prefix}/bin/python3", "-m", "pip", "config", "get", f"global.{name}")
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return os.environ.get(f"PIP_{name.upper().replace('-', '_')}", asked.stdout.strip())


def index_here() -> tuple[str, str]:
    """Return the package index that pip uses here, and its file of certificates; OSError."""
    index = configured("index-url") or "https://pypi.org/simple"
    # Debian's pip has none of its own.
    certificates = configured("cert") or ssl.get_default_verify_paths().cafile or ""
    context = ssl.create_default_context(cafile=certificates or None)
    urllib.request.urlopen(f"{index}/{PACKAGE}/", timeout=5, context=context).close()
    return index, certificates


async def test_pip_installs_a_package(room: Room) -> None:
    try:
        index, certificates = await trio.to_thread.run_sync(index_here)
    except OSError as error:
        pytest.skip(f"no package index answers here: {error}")
    names = expanded(["pypi"]) if "//pypi.org/" in index else (urlsplit(index).hostname or "",)
    found = [address for name in names for address in await Resolver().find(name, 443)]
    own = tuple({str(ip_network(address)) for address in found if not is_open(address, ())})
    egress = egress_of(room.driver.runs.parent, *names, networks=own)
    command = (python_command("")[0], "-I", "-m", "pip", "install", "-q", "--no-deps", "--target",
               "/out", "--index-url", index, PACKAGE)  # fmt: skip
    env = {"PIP_CONFIG_FILE": "/dev/null"} | ({"PIP_CERT": "/in/ca"} if certificates else {})
    variables = tuple(EnvVar(*pair) for pair in env.items())
    inputs = (("ca", Path(certificates)),) if certificates else ()
    job = workload(*command, egress=names, memory_mib=256, env=variables)
    code, log = await run(room, egress, job, inputs=inputs)
    assert code == 0, log
    assert {one.host for one in await egress.log.newest("", 9)} <= set(names)
