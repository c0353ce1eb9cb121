"""The models of each aspect of a world: ours, and those of other packages.

Another package offers a model through an entry point of the group `mutirao.simulate`, with the name
`aspect.model` and a class as its value: see scripts/lab_plugin.
Spec: specs/simulation-world.md#plug-ins.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from node.config.convert import nearest
from node.simulator.world import (
    adversaries,
    arrivals,
    bandwidth,
    churn,
    collusion,
    defences,
    demand,
    directory,
    idling,
    latency,
    pricing,
    recorded,
    supply,
)
from node.simulator.world.quantities import Meaning
from protocol.values.errors import InvalidRequest

GROUP: Final = "mutirao.simulate"
ADVERSARIES: Final = "adversaries"
OURS: Final[Mapping[str, Mapping[str, type]]] = MappingProxyType(
    {
        "latency": {
            "regions": latency.Regions,
            "uniform": latency.Uniform,
            "matrix": latency.Matrix,
            "recorded": recorded.RecordedLatency,
        },
        "bandwidth": {
            "equal": bandwidth.EqualLines,
            "homes": bandwidth.Homes,
            "recorded": recorded.RecordedLines,
        },
        "supply": {
            "mix": supply.Mix,
            "equal": supply.Equal,
            "recorded": recorded.RecordedSupply,
        },
        "pricing": {
            "drawn": pricing.DrawnFloors,
            "fixed": pricing.FixedFloors,
            "spread": pricing.SpreadFloors,
            "trace": pricing.PriceTrace,
            "recorded": recorded.RecordedPrices,
        },
        "demand": {
            "poisson": demand.Poisson,
            "diurnal": demand.Diurnal,
            "burst": demand.Burst,
            "bags": demand.Bags,
            "trace": arrivals.ArrivalTrace,
            "recorded": recorded.RecordedDemand,
        },
        "defences": {
            "none": defences.NoDefence,
            "redundancy": defences.Redundancy,
            "outlier-ban": defences.OutlierBan,
        },
        "churn": {"steady": churn.Steady, "weibull": churn.Weibull, "trace": churn.Trace},
        "directory": {"shared": directory.SharedAddresses, "dht": directory.DhtAddresses},
        ADVERSARIES: {**adversaries.OURS, **idling.OURS, **collusion.OURS},
    }
)
"""Our models by aspect and name; the first of each is the default. A world has one model of each
aspect, and any number of adversaries."""
_ADDED: Final[dict[tuple[str, str], type]] = {}
"""Models that this process has added."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a model."""

    name: str
    kind: Any
    about: Meaning


def aspects() -> tuple[str, ...]:
    """Return what has models."""
    return tuple(OURS)


def names(aspect: str) -> tuple[str, ...]:
    """Return the models of an aspect, ours first."""
    added = (name for place, name in _ADDED if place == aspect)
    return tuple(dict.fromkeys((*OURS[aspect], *added, *_others(aspect))))


def add_model(aspect: str, name: str, model: type) -> None:
    """Let scenarios of this process name a model of its own; one of that name is replaced.

    For notebooks: only a process that adds it can replay a run with it. InvalidRequest if there is
    no such aspect, or the name is one of ours.
    """
    if aspect not in OURS:
        raise InvalidRequest(f"there is no aspect {aspect!r}{nearest(aspect, aspects())}")
    if name in OURS[aspect]:
        raise InvalidRequest(f"there is a model {name!r} of {aspect} already")
    _ADDED[aspect, name] = model


def find(aspect: str, name: str) -> type:
    """Return a model's class; InvalidRequest if there is none, or it cannot be imported."""
    if name in OURS[aspect]:
        return OURS[aspect][name]
    if (aspect, name) in _ADDED:
        return _ADDED[aspect, name]
    others = _others(aspect)
    if name not in others:
        known = ", ".join(names(aspect))
        raise InvalidRequest(
            f"no {aspect} model is called {name!r}{nearest(name, names(aspect))}; there are {known}"
        )
    failure: Exception | None = None
    try:
        found = others[name].load()
    except Exception as error:  # noqa: BLE001 - whatever a foreign module raises at its import.
        failure = error
    if failure is not None:
        raise InvalidRequest(
            f"the {aspect} model {name!r} cannot be imported: {failure}"
        ) from failure
    if not isinstance(found, type):
        raise InvalidRequest(f"the {aspect} model {name!r} is not a class")
    return found


def parameters(model: type) -> dict[str, Parameter]:
    """Return the parameters of a model by name: the annotated fields of its class."""
    hints = get_type_hints(model, include_extras=True)
    found = {}
    for each in fields(model):
        hint = hints[each.name]
        if get_origin(hint) is Annotated:
            kind, about = get_args(hint)[:2]
            found[each.name] = Parameter(each.name, kind, about)
    return found


def catalogue() -> list[dict[str, Any]]:
    """Return all models with their parameters, for people and programs."""
    return [
        {
            "aspect": aspect,
            "model": name,
            "text": (model.__doc__ or "").strip().splitlines()[0],
            "parameters": [
                {"name": each.name, "text": each.about.text, "default": _default(model, each.name)}
                for each in parameters(model).values()
            ],
        }
        for aspect in aspects()
        for name in names(aspect)
        for model in [find(aspect, name)]
    ]


def _default(model: type, name: str) -> Any:
    (default,) = (each.default for each in fields(model) if each.name == name)
    return None if default is MISSING else default


def _others(aspect: str) -> dict[str, Any]:
    head = f"{aspect}."
    found = entry_points(group=GROUP)
    return {each.name[len(head) :]: each for each in found if each.name.startswith(head)}
