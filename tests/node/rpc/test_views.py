"""The views' JSON is their fields. Spec: specs/rpc.md#views."""

import dataclasses
import json

from pydantic import TypeAdapter

from node.rpc import explain_views, gpu_views, job_views, owner_views, views
from node.rpc.job_views import BidView, JobView, StepsView


def test_every_view_is_frozen_and_slotted():
    modules = (views, job_views, explain_views, owner_views, gpu_views)
    found = {name: each for module in modules for name, each in vars(module).items()}
    kinds = [each for each in found.values() if dataclasses.is_dataclass(each)]
    assert len(kinds) >= 15
    for kind in kinds:
        assert kind.__dataclass_params__.frozen
        assert "__slots__" in vars(kind)


def test_json_has_the_fields_and_no_floats():
    job = JobView("ab" * 16, "", "bids", "cd" * 32, ("true",), 5, bids=(BidView("p", "0.5", True),))
    plain = json.loads(TypeAdapter(JobView).dump_json(job))
    assert plain == json.loads(json.dumps(dataclasses.asdict(job)))
    assert plain["steps"] == dataclasses.asdict(StepsView())
    assert plain["bids"] == [{"peer": "p", "ask_hour": "0.5", "eligible": True}]
