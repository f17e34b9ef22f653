"""The page that leads from the papers' code to here names only what there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from registry.declare.stage import load_stage
from registry.plan.project import open_project

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
GRAPHS = {
    path.parent.name: open_project(path).graph
    for path in sorted((ROOT / "papers").glob("*/experiments.toml"))
}


def test_every_stage_and_function_is_there() -> None:
    names = set(re.findall(r"`((?:fact|evals)\.[a-z_0-9]+)", PAGE)) - {"fact.analysis"}
    named = names - {"fact.training", "fact.plotting"}  # rooms of the original's
    assert len(named) > 10
    for name in sorted(named):
        package, _, attribute = name.partition(".")
        if not hasattr(importlib.import_module(package), attribute):
            assert load_stage(name).name == name


def test_every_folder_and_what_is_run_in_it_is_there() -> None:
    assert set(re.findall(r"papers/([a-z-]+)", PAGE)) == GRAPHS.keys()
    fact, neurons = GRAPHS["fact"], GRAPHS["neuron-eval"]
    released = GRAPHS["fact-released"]
    assert {cell.experiment for cell in fact.select(["*[resnet50-layer4]"])} == {
        *("features", "sae", "concepts", "encodings", "consistency")
    }
    assert fact.select(["crp"])
    assert fact.select(["craft"])
    channels = ["channels", "channel-encodings", "channel-consistency"]
    for name in ("released", "gallery", "decisions", *channels):
        assert released.select([name])
    for number in range(1, 9):
        assert neurons.select([f"s{number}"])
    for number in range(1, 11):
        assert neurons.select([f"known-{number}"])
    assert neurons.select(["known", "known-7-shifted"])
