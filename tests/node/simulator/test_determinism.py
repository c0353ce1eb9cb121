"""What a simulation may not use: clocks, chance without a seed, and orders that are not its own.

Spec: specs/simulation.md#determinism. Files that only show or compare results may: they decide
nothing that happens in a run.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.test_tidy import FOREIGN, ROOT, SOURCES, named

SIMULATOR: Final = "node/simulator"
EXCEPTED: Final = frozenset({"plots", "results", "runs", "stack", "sweeps"})
"""Files that see a run from outside, and the tier of whole nodes, whose runs repeat nearly."""
BANNED_MODULES: Final = frozenset({
    "asyncio", "datetime", "os", "random", "secrets", "socket", "threading", "time", "trio", "uuid",
})  # fmt: skip
BANNED_NAMES: Final = frozenset({"hash", "id", "Random"})
"""Calls that differ by process: the addresses of objects, and generators without a seed."""
SETS: Final = frozenset({"set", "frozenset"})
SEEDS: Final = "node/simulator/seeds.py"
"""The only file in which generators are made."""


def undetermined(name: str, text: str) -> Iterator[str]:
    """Yield a line for each thing in a file of the simulator that may differ between runs."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    yield from _banned(name, node, alias.name)
            case ast.ImportFrom(module="random", names=[ast.alias("Random")]):
                pass  # For a type: it may not be called.
            case ast.ImportFrom(module=str(module)):
                yield from _banned(name, node, module)
            case ast.Call(func=ast.Name(called)) if called in BANNED_NAMES and name != SEEDS:
                yield f"{node.lineno}: calls {called}"
            case ast.Attribute(value=ast.Name("np"), attr="random") if name != SEEDS:
                yield f"{node.lineno}: numpy's own chance"
            case ast.For(iter=iterated) | ast.comprehension(iter=iterated) if _is_set(iterated):
                yield f"{iterated.lineno}: the order of a set"


def _banned(name: str, node: ast.stmt, module: str) -> Iterator[str]:
    top = module.split(".")[0]
    if top in BANNED_MODULES and (top, name) != ("random", SEEDS):
        yield f"{node.lineno}: imports {module}"


def _is_set(node: ast.expr) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(called)):
            return called in SETS
        case ast.BinOp(left=left, right=right):
            return _is_set(left) or _is_set(right)
    return False


def deciding(paths: list[Path]) -> list[Path]:
    """Return the files of the simulator that decide what happens in a run."""
    return [
        path for path in paths
        if named(path).startswith(f"{SIMULATOR}/")
        and not EXCEPTED & set(path.relative_to(ROOT / SIMULATOR).with_suffix("").parts)
    ]  # fmt: skip


@pytest.mark.parametrize("path", deciding(SOURCES), ids=named)
def test_a_run_depends_on_its_scenario_and_seed_alone(path: Path) -> None:
    assert list(undetermined(named(path), path.read_text())) == []


def test_files_that_decide_nothing_are_excused() -> None:
    names = ["engine.py", "plots.py", "sweeps.py", "world/demand.py", "runs.py"]
    paths = [ROOT / SIMULATOR / name for name in names] + [ROOT / "node/plots.py"]
    assert deciding(paths) == [paths[0], paths[3]]


@pytest.mark.parametrize(
    "bad",
    [
        "import time", "import os.path", "from datetime import datetime", "import random",
        "from random import Random, random", "from uuid import uuid4", "import trio as t",
        "hash('a')", "id(a)", "Random()", "np.random.default_rng()",
        "for a in {1, 2}: ...", "for a in set(b): ...", "[a for a in {b for b in c}]",
        "for a in set(b) | c: ...", "{a: 1 for a in frozenset(b)}",
    ],
)  # fmt: skip
def test_the_guard_has_teeth(bad: str) -> None:
    assert len(list(undetermined("node/simulator/engine.py", bad))) >= 1


@pytest.mark.parametrize(
    "good",
    [
        "from random import Random", "import math", "a in {1, 2}", "for a in sorted({1, 2}): ...",
        "for a in [1]: ...", "a.id()", "from node.simulator import seeds", "for a in b | c: ...",
    ],
)  # fmt: skip
def test_the_guard_bites_nobody_else(good: str) -> None:
    assert not list(undetermined("node/simulator/engine.py", good))
    assert not list(undetermined(SEEDS, "import random\nrandom.Random('1')"))


@pytest.mark.parametrize("module", ["node.daemon.compose", "node.cli.program"])
def test_a_node_runs_without_what_the_simulator_needs(module: str) -> None:
    """The extra is optional, and the command line starts faster without it."""
    libraries = sorted(FOREIGN[SIMULATOR])
    asked = f"import sys, {module}; print([one for one in {libraries} if one in sys.modules])"
    run = [sys.executable, "-c", asked]
    told = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("library", sorted(FOREIGN[SIMULATOR]))
def test_numbers_and_plots_live_in_the_simulator(library: str) -> None:
    assert [home for home, guests in FOREIGN.items() if library in guests] == [SIMULATOR]
