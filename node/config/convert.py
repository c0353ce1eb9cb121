"""Converts the value from a file, a variable or a flag to the setting's type.

Text is accepted for every type, because environment variables are text.
Spec: specs/configuration.md#values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

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
    RegistryName,
)
from node.owner.hours import span_of
from node.registry.reference import HUB, HUB_ALIASES, REGISTRY
from protocol.values.egress import SETS, is_name
from protocol.values.ids import PeerId, public_key_of
from protocol.values.units import rate_of_hourly

INT_DIGITS_MAX: Final = 15
DIGEST_DIGITS: Final = 64
TRUTHS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


class Unfit(Exception):
    """A value does not fit its setting; the text states what fits ("true or false")."""


@dataclass(frozen=True, slots=True)
class _Kind:
    what: str
    read: Callable[[Any], Any]
    """Return the value; raise ValueError, or RuntimeError for an unknown home folder."""


def convert(value: object, wanted: Any) -> Any:
    """Return the value converted to the wanted type; raise Unfit if it does not fit."""
    match get_origin(wanted):
        case origin if origin in (Union, UnionType):
            return _either(value, get_args(wanted))
        case origin if origin is Literal:
            return choice(value, get_args(wanted))
        case origin if origin is tuple:
            return _list(value, get_args(wanted)[0])
    kind = KINDS[wanted]
    try:
        return kind.read(value)
    except (ValueError, RuntimeError) as error:
        raise Unfit(kind.what) from error


def choice(value: object, choices: Sequence[str]) -> str:
    """Return the value if it is one of the choices; raise Unfit if not."""
    if value not in choices:
        raise Unfit(f"{', '.join(map(repr, choices))}{nearest(value, choices)}")
    return str(value)


def nearest(word: object, words: Sequence[str]) -> str:
    """Return a hint at the nearest word; empty if none is near."""
    import difflib  # noqa: PLC0415 - Only who made a mistake waits for its import.

    close = difflib.get_close_matches(str(word), words, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _either(value: object, alternatives: Sequence[Any]) -> Any:
    reasons = []
    for wanted in alternatives:
        try:
            return convert(value, wanted)
        except Unfit as unfit:
            reasons.append(str(unfit))
    raise Unfit(" or ".join(filter(None, reasons)))


def _list(value: object, wanted: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise Unfit(f"a list, and each of it {KINDS[wanted].what}")
    return tuple(convert(item, wanted) for item in value)


def _nothing(value: object) -> None:
    _require(value in (None, ""))


def _bool(value: object) -> bool:
    text = str(value).lower()
    _require(text in TRUTHS)
    return TRUTHS[text]


def _int(value: object) -> int:
    text = str(value)
    _require(text.isascii() and text.isdecimal() and len(text) <= INT_DIGITS_MAX)
    return int(text)


def _text(value: object) -> str:
    _require(isinstance(value, str) and value.isprintable())
    return str(value)


def _path(value: object) -> Path:
    _require(isinstance(value, str | Path) and str(value).isprintable())
    path = Path(str(value))
    # Empty text means the default.
    return path.expanduser().absolute() if path != Path() else path


def _credits(value: object) -> Credits:
    _require(isinstance(value, str | int | Decimal) and not isinstance(value, bool))
    rate_of_hourly(str(value))
    return Credits(str(value))


def _multiaddress(value: object) -> Multiaddress:
    text = _text(value)
    _require(text.startswith("/"))
    return Multiaddress(text)


def _gpu(value: object) -> GpuUuid:
    text = _text(value)
    _require(text.startswith(("GPU-", "MIG-", "AMD-")))
    return GpuUuid(text)


def _peer(value: object) -> PeerName:
    text = _text(value)
    public_key_of(PeerId(text))
    return PeerName(text)


def _image(value: object) -> ImageDigest:
    text = _text(value).lower().removeprefix("sha256:")
    _require(len(text) == DIGEST_DIGITS)
    bytes.fromhex(text)
    return ImageDigest(text)


def _class_price(value: object) -> ClassPrice:
    gpu_class, _, price = _text(value).partition("=")
    _require(gpu_class)
    rate_of_hourly(price)
    return ClassPrice(f"{gpu_class}={price}")


def _hours(value: object) -> Hours:
    text = _text(value)
    span_of(text)
    return Hours(text)


def _network(value: object) -> IpNetwork:
    return IpNetwork(str(ip_network(_text(value))))


def _registry(value: object) -> RegistryName:
    text = _text(value)
    _require(REGISTRY.fullmatch(text))
    return RegistryName(HUB if text in HUB_ALIASES else text)


def _name(value: object) -> NetworkName:
    text = _text(value).lower()
    _require(text in SETS or is_name(text))
    return NetworkName(text)


def _require(fits: object) -> None:
    """Refuse a value that does not fit; `convert` names what would fit."""
    if not fits:
        raise ValueError


KINDS: Final[dict[Any, _Kind]] = {
    NoneType: _Kind("", _nothing),  # Error messages need not mention that a value may be empty.
    bool: _Kind("true or false", _bool),
    int: _Kind("a whole number", _int),
    str: _Kind("a text on one line", _text),
    Path: _Kind("the path of a file or folder", _path),
    Credits: _Kind('an amount of credits, such as "0.50"', _credits),
    Multiaddress: _Kind("a multiaddress, such as /ip4/192.0.2.1/tcp/4788", _multiaddress),
    IpNetwork: _Kind("a network, such as 192.0.2.0/24", _network),
    RegistryName: _Kind("a registry, such as docker.io or localhost:5000", _registry),
    NetworkName: _Kind(f"a name, such as pypi.org or *.example.org, {' or '.join(SETS)}", _name),
    GpuUuid: _Kind("the uuid of a GPU, such as GPU-1234…", _gpu),
    PeerName: _Kind("the id of a peer, such as 12D3KooW…", _peer),
    ImageDigest: _Kind("the digest of an image: 64 hex digits", _image),
    ClassPrice: _Kind('a class of GPUs and a price, such as "h100-80gb=2.00"', _class_price),
    Hours: _Kind('days, hours or both, such as "mon-fri 20:00-07:00"', _hours),
}
