"""A tiny project whose stages really ran: networks, SAEs, concepts, decisions, names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from registry.execute.schedule import Watcher, run_plan
from registry.plan.project import Project, open_project
from registry.record.journal import journal_uids
from registry.record.states import State

DECLARATION = """
[datasets.shapes]
kind = "shapes"
n_train = 240
n_test = 60
size = 24

[experiments.classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { channels = [8, 16], strides = [2, 1], epochs = 3, batch = 32 }

[experiments.features]
stage = "fact.collect_features"
needs = { images = "shapes", network = "classifier" }
config = { layer = "features.1", samples_per_image = 20, batch = 50 }

[experiments.sae]
stage = "fact.train_sae"
needs = { features = "features" }
config = { n_concepts = 24, k = 4, batch = 256, epochs = 4, lr = 1e-2 }

[experiments.concepts]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "shapes" }

[experiments.gallery]
stage = "fact.draw_concepts"
needs = { concepts = "concepts" }
config = { n_images = 3, pictures = false }

[experiments.decisions]
stage = "fact.explain_decisions"
needs = { concepts = "concepts", gallery = "gallery" }
config = { per_class = 1, most = 3, pictures = false }

[experiments.labels]
stage = "fact.label_inputs"
needs = { images = "shapes" }

[experiments.names]
stage = "evals.name_concepts"
needs = { activations = "concepts", labels = "labels" }
config = { n_permutations = 19, min_positives = 1, min_active = 1 }

[experiments.channels]
stage = "fact.measure_channels"
needs = { network = "classifier", images = "shapes" }
config = { layer = "features.0" }

[experiments.tokens-classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { architecture = "small-vit", patch_size = 6, dim = 16, depth = 2, epochs = 1, batch = 32 }

[experiments.tokens]
stage = "fact.measure_channels"
needs = { network = "tokens-classifier", images = "shapes" }
config = { layer = "0.transformer.encoder_0" }
"""


def run_everything(folder: Path) -> Project:
    """Declare the project in a folder and run all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.toml").write_text(DECLARATION)
    project = open_project(folder)
    outcomes = run_plan(
        project, project.plan(), runner="here", journal_only=True, watcher=Watcher()
    )
    assert all(outcome.ending is State.COMPLETED for outcome in outcomes), outcomes
    return project


def train_again_and_again(root: Path, rounds: int) -> None:
    """Change the declaration, and run all that is due then: an SAE, and what was made of it."""
    declaration = root / "experiments.toml"
    for _ in range(rounds):
        changed = root / "changed.toml"
        seed = len(journal_uids(root))  # another one each time
        changed.write_text(DECLARATION.replace("k = 4,", f"k = 4, seed = {seed},"))
        os.replace(changed, declaration)
        project = open_project(root)
        outcomes = run_plan(project, project.plan(), runner="here", watcher=Watcher())
        assert len(outcomes) == 5, outcomes
        assert all(one.ending is State.COMPLETED for one in outcomes), outcomes


if __name__ == "__main__":  # what writes while others read
    train_again_and_again(Path(sys.argv[1]), int(sys.argv[2]))
