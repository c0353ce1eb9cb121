"""The network on which most end-to-end tests run, and what a failed test shows of it.

Spec: specs/overview.md#tests.
"""

from pathlib import Path

import pytest

from scripts.devnet import Devnet, NodeProcess, devnet
from tests.end_to_end.fixtures import OPEN_NETWORKS, assert_honest, named, network_of

PRICES = {"ana": "0.012", "bruno": "0.010", "carla": "0.015", "davi": "0.020"}
"""The providers of the common network, and what they ask for a processor for an hour."""
LOG_LINES = 12


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for network in OPEN_NETWORKS:
            for node in network.nodes:
                tail = "\n".join(node.tail().splitlines()[-LOG_LINES:])
                report.sections.append((f"log of {node.name}", tail))
    return report


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> Path:
    """A folder of blobs with the base image, to be copied: it is built once."""
    with devnet("mutirao-e2e-") as network:
        node = network.add("builder", {"provider.enabled": "false"})
        built = node.mutirao("image", "build-base")
        assert built.returncode == 0, built.stderr
        assert network.stop() == {"builder": 0}
        return (node.data / "blobs").rename(tmp_path_factory.mktemp("image") / "blobs")


@pytest.fixture(scope="session")
def network(image) -> Devnet:
    """A requester and four providers; whoever uses them leaves them as they were."""
    settings = {name: {"price.cpu_hour": price} for name, price in PRICES.items()}
    with network_of(settings, image) as network:
        yield network
        assert_honest(network)
        assert set(network.stop().values()) == {0}, "every node ends with exit code 0"


@pytest.fixture(scope="session")
def requester(network) -> NodeProcess:
    return named(network, "requester")
