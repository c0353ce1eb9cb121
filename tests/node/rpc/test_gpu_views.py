"""The state of a GPU as JSON. Spec: specs/rpc.md#views."""

from pydantic import TypeAdapter

from node.rpc.gpu_views import GpusView
from tests.node.rpc.recorded import BUSY_GPU


def test_a_gpu_is_one_object_with_what_it_reports():
    plain = TypeAdapter(GpusView).dump_python(GpusView((BUSY_GPU,), "one is missing"))
    assert plain["why"] == "one is missing"
    gpu = plain["gpus"][0]
    assert (gpu["uuid"], gpu["temperature_c"], gpu["part_of"]) == ("GPU-1", 71, None)
