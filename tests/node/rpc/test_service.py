"""The service in memory has the interface of the daemon. Spec: specs/rpc.md#service."""

import inspect

import pytest

from node.rpc.service import AdviceApi, GpuApi, ImageApi, JobApi, NodeApi, OwnerApi, TraceApi
from node.service.advice import AdviceService
from node.service.gpus import GpuService
from node.service.images import ImageService
from node.service.jobs import JobService
from node.service.node import NodeService
from node.service.owner import OwnerService
from node.service.traces import TraceService
from tests.node.rpc.recorded import RecordedService

METHODS = [
    (api, real, name)
    for api, real in (
        (JobApi, JobService),
        (ImageApi, ImageService),
        (NodeApi, NodeService),
        (AdviceApi, AdviceService),
        (TraceApi, TraceService),
        (OwnerApi, OwnerService),
        (GpuApi, GpuService),
    )
    for name, each in vars(api).items()
    if inspect.isfunction(each) and not name.startswith("_")
]


@pytest.mark.parametrize("api, real, name", METHODS)
def test_the_stand_in_and_the_real_one_have_the_method_with_its_parameters(api, real, name):
    wanted = getattr(api, name)
    for implementation in (real, RecordedService):
        found = getattr(implementation, name)
        assert list(inspect.signature(wanted).parameters) == list(
            inspect.signature(found).parameters
        )
        streams = name in {"events", "logs", "trace"}
        assert inspect.iscoroutinefunction(wanted) == (
            inspect.iscoroutinefunction(found) and not streams
        )


def test_the_interface_has_methods():
    assert len(METHODS) >= 30
