"""The notebook of the laboratory: its cells run, and show what their texts say.

Its cells are run here one after the other, without a Jupyter kernel: that would bring 34 packages
(130 MiB, a debugger and a message queue among them) for a file that is JSON with Python in it.
Spec: specs/simulation.md#notebook.
"""

import ast
import json
import sys
from types import ModuleType
from typing import Any

import pytest

from node.simulator.world import models
from tests.test_tidy import ROOT

NOTEBOOK = ROOT / "scripts/laboratory.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text("utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    return [cell for cell in found["cells"] if cell["cell_type"] == kind]


def shown(source: str, module: ModuleType) -> Any:
    """Run a cell; return the value of its last line if that is an expression, as Jupyter does."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), vars(module))
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), vars(module))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_cell_runs_and_shows_what_its_text_says(monkeypatch, tmp_path) -> None:
    module = ModuleType("laboratory")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(models, "_ADDED", {})
    monkeypatch.setattr("tempfile.mkdtemp", lambda: tmp_path)
    results = [shown("".join(cell["source"]), module) for cell in cells("code")]
    _, summary, outcomes, waited, swept, figure, tiers, hurt, spoiled, manifest = results
    assert summary["served"] > 0.5
    assert summary["digest"] == manifest["digest"]
    assert sum(outcomes["job_count"].to_pylist()) == summary["jobs"]
    assert waited[0] == summary["award_ms_p50"]
    assert swept.num_rows == spoiled.num_rows == 2
    assert figure.axes[0].get_xlabel() == "churn.session"
    assert figure._repr_png_().startswith(b"\x89PNG")
    for name in ("digest", "transmissions"):
        assert tiers[name][0] == tiers[name][1]
    assert tiers["events"][0] < tiers["events"][1]
    assert hurt["transmissions"][0] < hurt["transmissions"][1] * 0.8
    assert hurt["copies_per_node"][0] > hurt["copies_per_node"][1]
    retries = spoiled["retries_per_job_mean"].to_pylist()
    assert retries == sorted(retries)
    assert retries[-1] > retries[0]


def test_it_is_kept_without_what_it_shows() -> None:
    code = cells("code")
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in code}) == len(code)


def test_its_texts_link_to_files_that_exist() -> None:
    text = "".join("".join(cell["source"]) for cell in cells("markdown"))
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert len(links) >= 3
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
