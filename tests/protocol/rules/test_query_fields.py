"""What the fields of a query read, and their values. Spec: specs/query.md#fields."""

from dataclasses import replace

import pytest

from protocol.rules.query_fields import (
    FIELDS,
    VALUES,
    Subject,
    shown,
    subjects_of,
)
from protocol.values.ids import PeerId
from protocol.wire.messages import CapabilityRecord, GpuGroup, Prices

PEER = PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
RECORD = CapabilityRecord(
    1, 1_000, 60_000, (), True, "europe", 8, 16_384, 100_000, (), ("Docker",), Prices(10, 2, 90),
    (), "mutirao/0.1.0", ("memory", "cpu"), 2,
)  # fmt: skip
H100 = GpuGroup("h100-80gb", 4, 81_559)
BARE = Subject(PEER, RECORD, None, now_ms=61_000)
WITH_GPU = Subject(PEER, replace(RECORD, gpus=(H100,)), H100, 61_000, settled=True, connected=True)


def test_a_node_without_gpus():
    assert {name: field.have(BARE) for name, field in FIELDS.items()} == {
        "peer": (PEER, "Nft9HyQ6X"[-8:]), "gpu_class": ("none",), "gpus": 0, "vram": 0,
        "cpus": 8, "memory": 16_384, "disk": 100_000, "region": ("europe", "eu"), "price": 10,
        "price_cpu": 10, "price_gpu": 90, "price_memory": 2, "driver": ("docker",),
        "isolation": 2, "agent": ("mutirao/0.1.0",), "soft_limits": ("memory", "cpu"),
        "egress": ("none",),
        "age": 60_000, "settled": False, "connected": False,
    }  # fmt: skip


def test_a_node_with_gpus():
    have = {name: field.have(WITH_GPU) for name, field in FIELDS.items()}
    assert (have["gpu_class"], have["gpus"]) == (("h100-80gb", "h100"), 4)
    assert (have["vram"], have["price"]) == (80 * 1024, 90)
    assert have["settled"] is have["connected"] is True


@pytest.mark.parametrize(
    "name,names",
    [("rtx-4090", ("rtx-4090",)), ("A100-40GB", ("a100-40gb", "a100")), ("80gb", ("80gb",)),
     ("x-gb", ("x-gb",)), ("rtx-3060-ti", ("rtx-3060-ti",))],
)  # fmt: skip
def test_the_names_of_a_gpu_class(name, names):
    subject = replace(BARE, gpus=GpuGroup(name, 1, 0))
    assert FIELDS["gpu_class"].have(subject) == names


def test_what_is_empty_is_named_none_and_a_young_record_has_no_age():
    empty = replace(BARE, record=CapabilityRecord(1, 99_000, 1, (), True))
    for name in ("region", "driver", "agent", "soft_limits"):
        assert FIELDS[name].have(empty) == ("none",)
    assert FIELDS["age"].have(empty) == 0


def test_each_kind_of_gpus_is_a_subject_of_its_own():
    both = replace(RECORD, gpus=(H100, GpuGroup("l4", 1, 23_034)))
    of_both = subjects_of(PEER, both, 5, settled=True, connected=False)
    assert [subject.gpus for subject in of_both] == list(both.gpus)
    (bare,) = subjects_of(PEER, RECORD, 61_000, settled=False, connected=False)
    assert bare == BARE


@pytest.mark.parametrize(
    "field,text,value",
    [("gpus", "4", 4), ("vram", "80G", 81_920), ("age", "10m", 600_000), ("price", "3.6", 10**6),
     ("isolation", "MicroVM", 3), ("settled", "no", 0), ("settled", "TRUE", 1),
     ("region", "Europe", "europe"), ("peer", "…Nft9HyQ6X", "Nft9HyQ6X"), ("peer", PEER, PEER)],
)  # fmt: skip
def test_values(field, text, value):
    assert FIELDS[field].kind.read(text) == value


@pytest.mark.parametrize(
    "field,text,expected",
    [("gpus", "4.5", "whole number"), ("gpus", "٣", "whole number"), ("gpus", "9" * 16, "whole"),
     ("vram", "80X", "a size such as"), ("age", "soon", "a duration such as"),
     ("price", "cheap", "not a price"), ("price", "1e999999999", "not a price"),
     ("isolation", "docker", "container < gvisor < microvm < vm < confidential"),
     ("settled", "maybe", "true or false"), ("peer", "Q6X", "its last 8 characters")],
)  # fmt: skip
def test_a_bad_value_says_what_is_expected(field, text, expected):
    with pytest.raises(ValueError, match=expected):
        FIELDS[field].kind.read(text)


def test_every_kind_is_explained():
    assert {field.kind for field in FIELDS.values()} == set(VALUES)


def test_what_a_node_has_is_shown():
    told = {name: shown(name, WITH_GPU) for name in FIELDS}
    assert (told["vram"], told["price"], told["isolation"]) == ("80 GiB", "0.0003", "gvisor")
    assert (told["gpu_class"], told["region"], told["cpus"]) == ("h100-80gb", "europe", "8")
    assert told["soft_limits"] == "memory, cpu"
