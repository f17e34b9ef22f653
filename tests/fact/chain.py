"""A chain from images to named concepts, run once for all tests that build on it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from registry.execute.schedule import Watcher, run_plan
from registry.plan.project import Project, open_project
from registry.record.states import State

if TYPE_CHECKING:  # programs that run beside a test need no pytest
    from tests.conftest import MakeOnce

DECLARATION = """
[datasets.shapes]
kind = "shapes"
n_train = 240
n_test = 40
size = 24

[experiments.classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { channels = [8, 16], strides = [2, 1], epochs = 2, batch = 32 }

[experiments.features]
stage = "fact.collect_features"
needs = { images = "shapes", network = "classifier" }
config = { layer = "features.1", samples_per_image = 20, batch = 50 }

[experiments.sae]
stage = "fact.train_sae"
needs = { features = "features" }
config = { n_concepts = 24, k = 4, batch = 256, epochs = 2, lr = 1e-2, evaluate_every = 1 }

[experiments.concepts]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "shapes" }
config = { batch = 16 }

[experiments.channels]
stage = "fact.measure_channels"
needs = { network = "classifier", images = "shapes" }
config = { layer = "features.1", batch = 16, target = "label" }

[experiments.labels]
stage = "fact.label_inputs"
needs = { images = "shapes" }

[experiments.names]
stage = "evals.name_concepts"
needs = { activations = "concepts", labels = "labels" }
config = { n_bootstrap = 20, n_permutations = 19, min_positives = 1, min_active = 1 }
"""


def chain_with(declaration: str, make_once: MakeOnce, root: Path) -> Project:
    """Copy the chain into a folder, declare more experiments there, and run them."""
    copy_chain(make_once, root)
    return run_all(DECLARATION + declaration, root)


def copy_chain(make_once: MakeOnce, root: Path) -> None:
    """Copy the chain into a folder, to be run further."""
    chain = make_once("chain", partial(run_all, DECLARATION))
    shutil.copytree(chain, root, symlinks=True, dirs_exist_ok=True)


def run_all(declaration: str, root: Path) -> Project:
    """Declare experiments in a folder, and run what is due of them."""
    root.mkdir(exist_ok=True)
    (root / "experiments.toml").write_text(declaration)
    project = open_project(root / "experiments.toml")
    outcomes = run_plan(
        project, project.plan(), runner="here", journal_only=True, watcher=Watcher()
    )
    failures = [o for o in outcomes if o.ending is not State.COMPLETED]
    assert not failures, [(o.name, o.message) for o in failures]
    return project
