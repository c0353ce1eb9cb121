"""A scenario: everything that decides a simulation, as a TOML file or as an object.

The same scenario and repetition give the same run, event by event.
Spec: specs/simulation.md#scenario.
"""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final

from node.config.convert import Unfit, nearest
from node.config.toml_lines import line_of
from node.simulator.simulation import FLOW, MESSAGE, STACK, World
from node.simulator.values import read_value
from node.simulator.world.defences import NoDefence
from node.simulator.world.directory import SharedAddresses
from node.simulator.world.models import ADVERSARIES, Parameter, aspects, find, names, parameters
from node.simulator.world.pricing import ChangingPrices
from node.simulator.world.quantities import Duration, Meaning
from protocol.values.errors import InvalidRequest

TIERS: Final = (FLOW, MESSAGE, STACK)
STACK_NODES_MAX: Final = 200
STACK_MIB_MAX: Final = 4_096
"""The most that the images of all nodes of the tier `stack` take together: they are files."""
RUNS_MAX: Final = 100_000
MODEL: Final = "model"
SWEEP: Final = "sweep"
UNDECIDING: Final = frozenset({"name", "repetitions"})
Values = Mapping[str, Any]
"""Values by dotted key, such as `churn.session`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a scenario says outside its sections."""

    name: Annotated[str, Meaning("what it is called")] = "scenario"
    seed: Annotated[int, Meaning("decides all chance", 0)] = 1
    tier: Annotated[str, Meaning("the fidelity: flow, message or stack")] = FLOW
    horizon: Annotated[Duration, Meaning("how much virtual time passes")] = Duration(600_000)
    repetitions: Annotated[int, Meaning("runs with other seeds", 1, RUNS_MAX)] = 1
    nodes: Annotated[int, Meaning("how many nodes there are", 2, 20_000_000)] = 1_000
    requesters: Annotated[int, Meaning("how many of them submit jobs, and lend nothing", 1)] = 10
    degree: Annotated[int, Meaning("neighbours in the mesh of a topic, an even number", 2, 64)] = 8
    loss_percent: Annotated[float, Meaning("lost gossip; not in flow", 0, 100)] = 0.0
    silent_percent: Annotated[float, Meaning("nodes that forward none; not in flow", 0, 100)] = 0.0
    invalid_percent: Annotated[
        float, Meaning("nodes that forward invalid gossip; not in flow", 0, 100)
    ] = 0.0
    scoring: Annotated[bool, Meaning("neighbours of no use lose their place; not in flow")] = True
    processing_us: Annotated[
        int, Meaning("how long a node is busy with each message", 0, 10_000_000)
    ] = 0
    crypto: Annotated[bool, Meaning("sign and verify with real keys")] = False
    events: Annotated[int, Meaning("record every so many-th event; 0: none", 0)] = 0


SETTINGS: Final = parameters(Settings)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that is valid. `values` are those that its author gave."""

    settings: Settings
    world: World
    values: Values = field(default_factory=dict)
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The values of a sweep by key: each combination is a point."""
    folder: Path = field(default_factory=Path)
    files: tuple[str, ...] = ()
    """The keys whose values are files."""
    point: Values = field(default_factory=dict)
    """Where it stands on each axis of the sweep that it is a point of."""

    @staticmethod
    def read(path: Path) -> "Scenario":
        """Return the scenario in a file; InvalidRequest names the line and what is wrong."""
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise InvalidRequest(f"cannot read {path}: {reason}") from None
        return Scenario.parse(text, path)

    @staticmethod
    def parse(text: str, path: Path = Path("scenario")) -> "Scenario":
        """Return the scenario in a text; `path` is what errors call it."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidRequest(f"{path}: {error}") from None
        try:
            return _made(_flat(tables), path.parent)
        except _Wrong as wrong:
            raise InvalidRequest(f"{path}{_line_of(text, wrong.key)}: {wrong}") from None

    @staticmethod
    def of(values: Values) -> "Scenario":
        """Return the scenario with these values by dotted key; those of a sweep are lists."""
        try:
            return _made(dict(values), Path())
        except _Wrong as wrong:
            raise InvalidRequest(str(wrong)) from None

    def changed(self, values: Values) -> "Scenario":
        """Return a scenario in which some values are others; a key that is set is not swept."""
        axes = {f"{SWEEP}.{key}": list(found) for key, found in self.axes.items()}
        kept = {key: found for key, found in axes.items() if key[len(SWEEP) + 1 :] not in values}
        try:
            return _made({**self.values, **kept, **values}, self.folder)
        except _Wrong as wrong:
            raise InvalidRequest(str(wrong)) from None

    def points(self) -> Iterator["Scenario"]:
        """Yield a scenario for each combination of the values of the sweep; itself without one."""
        for chosen in itertools.product(*self.axes.values()):
            point = dict(zip(self.axes, chosen, strict=True))
            yield replace(_made({**self.values, **point}, self.folder), point=point)

    def seed_of(self, repetition: int) -> int:
        """Return the seed of a repetition: the same at each point, so points can be compared."""
        text = f"{self.settings.seed}/repetition {repetition}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1

    def text(self) -> str:
        """Return the values as JSON: `Scenario.of` makes the same scenario of them."""
        return json.dumps(dict(sorted(self.values.items())), default=str)

    @property
    def digest(self) -> str:
        """The SHA-256 of what decides a run: not its name, nor how many repetitions follow."""
        given = {key: value for key, value in self.values.items() if key not in UNDECIDING}
        for key in self.files:
            given[key] = _content(Path(given[key]))
        return hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None


class _Wrong(Exception):
    """A value is wrong, or there is no such key."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key


def _made(given: dict[str, Any], folder: Path) -> Scenario:
    axes = {
        key.removeprefix(f"{SWEEP}."): tuple(value) if isinstance(value, list) else (value,)
        for key, value in given.items() if key.startswith(f"{SWEEP}.")
    }  # fmt: skip
    values = {key: value for key, value in given.items() if not key.startswith(f"{SWEEP}.")}
    settings = Settings(**_read(values, SETTINGS, "", folder))
    chosen = {aspect: _chosen(aspect, values) for aspect in aspects() if aspect != ADVERSARIES}
    chosen |= _adversaries(values)
    known = [*SETTINGS, *(f"{aspect}.{MODEL}" for aspect in chosen if "." not in aspect)]
    for place, model in chosen.items():
        known += [f"{place}.{name}" for name in parameters(model)]
    for key, value in values.items():
        if key not in known and not (value == {} and key in {*chosen, SWEEP}):  # An empty section.
            raise _Wrong(key, _unknown(key, known, values))
    _check(settings)
    made = {place: _model(place, model, values, folder) for place, model in chosen.items()}
    files = _files(made, chosen)
    deviating = tuple(made.pop(place) for place in chosen if "." in place)
    size = settings.nodes, settings.requesters, settings.degree
    world = World(
        *size, crypto=settings.crypto or settings.tier == STACK, loss_percent=settings.loss_percent,
        silent_percent=settings.silent_percent, invalid_percent=settings.invalid_percent,
        scoring=settings.scoring, processing_us=settings.processing_us, adversaries=deviating,
        **made,
    )  # fmt: skip
    if settings.tier == STACK:
        _check_stack(world)
    for key, swept in axes.items():
        for value in swept:
            _made({**values, key: value}, folder)
    return Scenario(settings, world, {**values, **files}, axes, folder, tuple(files))


def _files(made: Mapping[str, Any], models: Mapping[str, type]) -> dict[str, str]:
    """Return the files that models name, by key: what they contain decides the run, too."""
    return {
        f"{place}.{name}": str(getattr(made[place], name).absolute())
        for place, model in models.items()
        for name, parameter in parameters(model).items() if parameter.kind is Path
    }  # fmt: skip


def _chosen(aspect: str, values: Values) -> type:
    """Return the class of an aspect's model."""
    key = f"{aspect}.{MODEL}"
    try:
        return find(aspect, str(values.get(key, names(aspect)[0])))
    except InvalidRequest as error:
        raise _Wrong(key, str(error)) from None


def _adversaries(values: Values) -> dict[str, type]:
    """Return the classes of the adversaries by section, such as `adversaries.no-show`."""
    found: dict[str, type] = {}
    for key in values:
        section = key if values[key] == {} else key.rpartition(".")[0]
        aspect, _, name = section.partition(".")
        if aspect == ADVERSARIES:
            try:
                found[section] = find(ADVERSARIES, name)
            except InvalidRequest as error:
                raise _Wrong(key, str(error)) from None
    return dict(sorted(found.items()))


def _model(place: str, model: type, values: Values, folder: Path) -> Any:
    """Return the object of a model, with the parameters that the scenario gives."""
    given = _read(values, parameters(model), f"{place}.", folder)
    needed = [
        each.name for each in fields(model)
        if each.default is MISSING and each.default_factory is MISSING
    ]  # fmt: skip
    missing = ", ".join(name for name in needed if name not in given)
    if missing:
        raise _Wrong(f"{place}.{MODEL}", f"the model needs {missing}")
    return model(**given)


def _unknown(key: str, known: Sequence[str], values: Values) -> str:
    """Say why there is no such key, and which there are."""
    place, _, name = key.rpartition(".")
    own = [each.removeprefix(f"{place}.") for each in known if each.startswith(f"{place}.")]
    if not place or not own:
        return f"there is no such key{nearest(key, known)}"
    model = values.get(f"{place}.{MODEL}", names(place)[0] if place in aspects() else place)
    own = [each for each in own if each != MODEL]
    near = nearest(name, own) or f": it has {', '.join(own) or 'none'}"
    return f"the model {model!r} has no such parameter{near}"


def _read(
    values: Values, known: Mapping[str, Parameter], before: str, folder: Path
) -> dict[str, Any]:
    read = {}
    for name, parameter in known.items():
        key = before + name
        if key in values:
            try:
                read[name] = read_value(values[key], parameter, folder)
            except Unfit as unfit:
                raise _Wrong(key, f"{values[key]!r} should be {unfit}") from None
    return read


def _check(settings: Settings) -> None:
    if settings.tier not in TIERS:
        near = nearest(settings.tier, TIERS)
        either = f"{', '.join(TIERS[:-1])} or {TIERS[-1]}"
        raise _Wrong("tier", f"{settings.tier!r} should be {either}{near}")
    if settings.requesters >= settings.nodes:
        raise _Wrong("requesters", "there must be more nodes than requesters")
    for name in ("loss_percent", "silent_percent", "invalid_percent"):
        if getattr(settings, name) and settings.tier == FLOW:
            raise _Wrong(name, f"the tier {settings.tier} computes gossip at once: use {MESSAGE}")
    if settings.degree % 2:
        raise _Wrong("degree", "it must be even: a mesh is a union of rings")


def _check_stack(world: World) -> None:
    """See that a world is small enough for whole nodes, and honest."""
    if world.nodes > STACK_NODES_MAX:
        raise _Wrong("nodes", f"the tier {STACK} runs whole nodes, at most {STACK_NODES_MAX}")
    image_mib = getattr(world.demand, "image_mib", 0)
    if image_mib * world.nodes > STACK_MIB_MAX:
        most = STACK_MIB_MAX // world.nodes
        why = f"the tier {STACK} stores images as files, {most} MiB each with so many nodes"
        raise _Wrong("demand.image_mib", why)
    if world.processing_us:
        raise _Wrong("processing_us", f"in the tier {STACK} nodes take the time that they take")
    if isinstance(world.pricing, ChangingPrices):
        raise _Wrong("pricing.model", f"in the tier {STACK} prices do not change: use {MESSAGE}")
    if not isinstance(world.defences, NoDefence):
        raise _Wrong("defences.model", f"in the tier {STACK} users do nothing: use {MESSAGE}")
    if not isinstance(world.directory, SharedAddresses):
        raise _Wrong("directory.model", f"in the tier {STACK} nodes gather their own")
    if world.adversaries:
        raise _Wrong(ADVERSARIES, f"in the tier {STACK} all nodes are honest: use {MESSAGE}")


def _flat(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = value
    return flat


def _line_of(text: str, key: str) -> str:
    """Return `, line N` of a key or its axis; empty if it is not found."""
    line = line_of(text, key, quoted=True) or line_of(text, f"{SWEEP}.{key}", quoted=True)
    return f", line {line}" if line else ""
