"""A tiny project whose stages really ran: networks, SAEs, concepts, decisions, names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from registry.execute.schedule import Watcher, run_plan
from registry.plan.project import Project, open_project
from registry.record.journal import journal_uids
from registry.record.states import State
from tests.fact import chain

if TYPE_CHECKING:
    from tests.conftest import MakeOnce


CHANNELS = 'layer = "features.1", batch = 16, target = "label"'
assert CHANNELS in chain.DECLARATION
DECLARATION = f"""{chain.DECLARATION.replace(CHANNELS, 'layer = "features.0"')}
[experiments.gallery]
stage = "fact.draw_concepts"
needs = {{ concepts = "concepts" }}
config = {{ n_images = 3, pictures = false }}

[experiments.decisions]
stage = "fact.explain_decisions"
needs = {{ concepts = "concepts", gallery = "gallery" }}
config = {{ per_class = 1, most = 3, pictures = false }}

[experiments.tokens-classifier]
stage = "fact.train_classifier"
needs = {{ images = "shapes" }}
[experiments.tokens-classifier.config]
architecture = "small-vit"
patch_size = 6
dim = 16
depth = 2
epochs = 1
batch = 32

[experiments.tokens]
stage = "fact.measure_channels"
needs = {{ network = "tokens-classifier", images = "shapes" }}
config = {{ layer = "0.transformer.encoder_0" }}
"""


def run_everything(make_once: MakeOnce, folder: Path) -> Project:
    """Copy the chain that others run too into a folder, and run what explains it."""
    chain.copy_chain(make_once, folder)
    return chain.run_all(DECLARATION, folder)


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
