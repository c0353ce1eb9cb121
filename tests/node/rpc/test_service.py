"""The service in memory has the interface of the daemon. Spec: specs/rpc.md#service."""

import inspect

from node.rpc.service import Service
from tests.node.rpc.recorded import RecordedService


def test_the_stand_in_has_every_method_with_the_same_parameters():
    methods = [name for name, each in vars(Service).items() if inspect.isfunction(each)]
    methods = [name for name in methods if not name.startswith("_")]
    assert len(methods) == 17
    for name in methods:
        wanted, found = getattr(Service, name), getattr(RecordedService, name)
        assert list(inspect.signature(wanted).parameters) == list(
            inspect.signature(found).parameters
        )
        streams = name in {"events", "logs"}
        assert inspect.iscoroutinefunction(wanted) == (
            inspect.iscoroutinefunction(found) and not streams
        )
