"""A stranger's JSON is an image's manifest, index or config, or it is refused in one line.

Spec: specs/data.md#images.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.data.blobs import BlobRef
from node.data.manifest import (
    DOCUMENT_MAX,
    LAYERS_MAX,
    Descriptor,
    manifest_of,
    own_platform,
    parse_config,
    parse_index,
    parse_manifest,
)
from protocol.values.errors import InvalidRequest
from protocol.values.ids import digest_of

DIGEST = "sha256:" + digest_of(b"x").hex()
LAYER = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": DIGEST,
    "size": 7,
}
MANIFEST = {"schemaVersion": 2, "config": {**LAYER, "size": 3}, "layers": [LAYER]}
CONFIG = {
    "architecture": "amd64",
    "created": "2026-01-01T00:00:00Z",
    "config": {
        "Env": ["PATH=/bin", "A="],
        "Cmd": ["sh"],
        "Entrypoint": None,
        "User": "1000",
        "WorkingDir": "/w",
        "Volumes": {"/b": {}, "/a": {}},
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}


def test_a_manifest() -> None:
    manifest = parse_manifest(json.dumps(MANIFEST).encode())
    assert manifest.config == BlobRef(digest_of(b"x"), 3)
    assert manifest.layers == (Descriptor(BlobRef(digest_of(b"x"), 7), LAYER["mediaType"]),)
    ours = manifest_of(manifest.config, manifest.layers)
    assert parse_manifest(ours) == manifest
    assert ours == manifest_of(manifest.config, manifest.layers)


def test_a_config() -> None:
    config = parse_config(json.dumps(CONFIG).encode())
    assert config.env == (("PATH", "/bin"), ("A", ""))
    assert (config.cmd, config.entrypoint) == (("sh",), ())
    assert (config.user, config.working_dir, config.volumes) == ("1000", "/w", ("/a", "/b"))
    assert config.diff_ids == (digest_of(b"x"),)


def test_an_index() -> None:
    entry = {**LAYER, "platform": {"os": "linux", "architecture": "amd64"}}
    named = {**entry, "annotations": {"org.opencontainers.image.ref.name": "v1"}}
    first, second = parse_index(json.dumps({"manifests": [entry, named]}).encode())
    assert (first.platform, first.name, second.name) == ("linux/amd64", "", "v1")
    assert own_platform().startswith("linux/")


BAD_MANIFESTS = [
    b"",
    b"[]",
    b"\xff",
    b"[" * 100_000,
    b"1" * 5000,
    json.dumps(MANIFEST).encode() + b" " * DOCUMENT_MAX,
    {**MANIFEST, "schemaVersion": 1},
    {**MANIFEST, "mediaType": "application/vnd.oci.image.index.v1+json"},
    {**MANIFEST, "layers": {}},
    {**MANIFEST, "layers": [LAYER] * (LAYERS_MAX + 1)},
    {**MANIFEST, "layers": ["x"]},
    {**MANIFEST, "layers": [{**LAYER, "mediaType": "foreign"}]},
    *(
        {**MANIFEST, "layers": [{**LAYER, "size": size}]}
        for size in (-1, 1.5, True, "7", 2**43 + 1)
    ),
    *(
        {**MANIFEST, "config": {**LAYER, "digest": digest}}
        for digest in (None, "md5:00", "sha256:../../etc", DIGEST.upper(), DIGEST + "0")
    ),
]


@pytest.mark.parametrize("document", BAD_MANIFESTS, ids=lambda d: repr(d)[:40])
def test_no_manifest(document) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(InvalidRequest) as caught:
        parse_manifest(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wish",
    [
        {"Env": ["=x"]},
        {"Env": ["novalue"]},
        {"Env": "A=b"},
        {"Cmd": ["a\0b"]},
        {"Cmd": [1]},
        {"User": 0},
        {"Volumes": []},
        {"Env": ["A=b"] * 2000},
    ],
    ids=lambda d: repr(d)[:40],
)
def test_no_config(wish) -> None:
    with pytest.raises(InvalidRequest):
        parse_config(json.dumps({**CONFIG, "config": wish}).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted({*MANIFEST, "mediaType", "config", "rootfs", "manifests"})), JSON)
def test_any_field_is_right_or_refused(key: str, value) -> None:
    for parse, document in ((parse_manifest, MANIFEST), (parse_config, CONFIG), (parse_index, {})):
        try:
            parse(json.dumps({**document, key: value}).encode())
        except InvalidRequest:
            continue
