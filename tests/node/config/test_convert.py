"""Each kind of value is read as it was meant, or the user is told what it should be.

Spec: specs/configuration.md#values.
"""

from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from node.config.convert import Unfit, convert, nearest
from node.config.sections import (
    ClassPrice,
    Credits,
    GpuUuid,
    Hours,
    ImageDigest,
    IpNetwork,
    Multiaddress,
    NetworkName,
    PeerName,
)
from tests.node.fixtures import ADA

Color = Literal["red", "green"]


@pytest.mark.parametrize(
    "value,wanted,expected",
    [
        (True, bool, True),
        ("No", bool, False),
        (7, int, 7),
        ("7", int, 7),
        ("", int | None, None),
        (None, int | None, None),
        (3, int | None, 3),
        ("word", str, "word"),
        ("/a/b", Path, Path("/a/b")),
        (Path("/a"), Path, Path("/a")),
        ("", Path, Path()),
        ("a", Path, Path.cwd() / "a"),
        ("~/a", Path, Path.home() / "a"),
        (Decimal("0.5"), Credits, "0.5"),
        (2, Credits, "2"),
        ("0.02", Credits, "0.02"),
        ("/ip4/1.2.3.4/tcp/1, /ip6/::1/tcp/1", tuple[Multiaddress, ...], None),
        ([], tuple[Multiaddress, ...], ()),
        ("", tuple[Multiaddress, ...], ()),
        ("red", Color, "red"),
        ("192.0.2.0/24, ::1", tuple[IpNetwork, ...], ("192.0.2.0/24", "::1/128")),
        ("PyPI,*.a.org", tuple[NetworkName, ...], ("pypi", "*.a.org")),
        ("all", Literal["all"] | tuple[GpuUuid, ...], "all"),
        ("mon-fri 20:00-07:00, sat-sun", tuple[Hours, ...], ("mon-fri 20:00-07:00", "sat-sun")),
        (f"sha256:{'AB' * 32}", tuple[ImageDigest, ...], ("ab" * 32,)),
        ([ADA.peer_id], tuple[PeerName, ...], (ADA.peer_id,)),
        ("h100-80gb=2.00", tuple[ClassPrice, ...], ("h100-80gb=2.00",)),
        ("GPU-1,MIG-2", Literal["all"] | tuple[GpuUuid, ...], ("GPU-1", "MIG-2")),
    ],
)
def test_value_is_read(value, wanted, expected) -> None:
    if value and wanted == tuple[Multiaddress, ...]:
        expected = ("/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/1")
    assert convert(value, wanted) == expected


@pytest.mark.parametrize(
    "value,wanted,advice",
    [
        ("maybe", bool, "true or false"),
        (True, int, "a whole number"),
        (-1, int, "a whole number"),
        (1.5, int, "a whole number"),
        ("9" * 30, int, "a whole number"),
        ("many", int | None, "a whole number"),
        ("two\nlines", str, "one line"),
        (5, str, "one line"),
        ("\0", Path, "path"),
        ("~nobody-of-that-name/x", Path, "path"),
        (True, Credits, "amount of credits"),
        ("free", Credits, "amount of credits"),
        ("-1", Credits, "amount of credits"),
        (Decimal("NaN"), Credits, "amount of credits"),
        ("localhost:80", tuple[Multiaddress, ...], "a multiaddress"),
        (5, tuple[Multiaddress, ...], "a list, and each of it a multiaddress"),
        ("gren", Color, r"'red', 'green' \(did you mean 'green'\?\)"),
        (["red"], Color, "'red', 'green'"),
        ("latest", tuple[ImageDigest, ...], "the digest of an image: 64 hex digits"),
        ("12D3KooW", tuple[PeerName, ...], "the id of a peer"),
        ("h100-80gb", tuple[ClassPrice, ...], "a class of GPUs and a price"),
        ("=2", tuple[ClassPrice, ...], "a class of GPUs and a price"),
        ("20:00", tuple[Hours, ...], "days, hours or both"),
        ("al", Literal["all"] | tuple[GpuUuid, ...], "'all'.* or the uuid of a GPU"),
    ],
)
def test_value_that_does_not_fit_is_told(value, wanted, advice: str) -> None:
    with pytest.raises(Unfit, match=advice):
        convert(value, wanted)


def test_no_hint_where_nothing_is_near() -> None:
    assert nearest("zzz", ("red", "green")) == ""
