"""Each chain of both papers from end to end, at the real geometry, on what stands in for the data.

``make paper-smoke`` runs it: the papers' own declarations, with a few folders and sizes changed, by
``factbook run``. Every dataset that must come out is there, and is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.papers.declarations import declaration

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Paper:
    """One folder of ``papers``, and what of it is run.

    Attributes
    ----------
    name : str
        The folder.
    write : str
        Function of `tests.papers.stand_ins` that writes what it reads.
    targets : tuple of str
        As ``factbook run`` takes them; all for none.
    changes : mapping
        Folders and sizes, see `tests.papers.declarations`.
    """

    name: str
    write: str
    targets: tuple[str, ...]
    changes: Mapping[str, Any]


FEW_IMAGES = {"config": {"least_images": 2}}
TRUSTED = {"config": {"trusted": True}}
FEW_CONCEPTS = {"n_concepts": 3, "k": 1}

PAPERS = (
    Paper(
        "fact",
        "write_fact",
        ("densenet121-transition3", "resnet50-layer4", "vitc-s-encoder10", "crp", "craft"),
        {
            "experiments": {
                "sae": {"matrix": FEW_CONCEPTS},
                "encodings": TRUSTED,
                "crp-encodings": {"config": {"trusted": True, "n_images": 3}},
                "craft-concepts": {"config": {"images_per_class": 1}},
                "craft-encodings": TRUSTED,
                "crp-consistency": FEW_IMAGES,
                "craft-consistency": FEW_IMAGES,
            }
        },
    ),
    Paper(
        "fact-released",
        "write_released",
        (
            "consistency[resnet50-layer4]",
            "decisions[resnet50-layer4]",
            "channel-consistency[densenet121-norm5]",
        ),
        {"experiments": {"encodings": TRUSTED, "channel-encodings": TRUSTED}},
    ),
    Paper(
        "neuron-eval",
        "write_neuron_eval",
        (),
        {
            "networks": {
                "clip": {"folder": "clip"},
                "siglip": {"folder": "clip", "scale": 58, "shift": -0.13},
                "gpt2-small": {"model": None, "folder": "gpt2"},
                "gpt2-xl": {"model": None, "folder": "gpt2"},
            },
            "experiments": {
                "sanity-2": {"config": {"neurons": ["0:64"]}},
                "sanity-4": {"config": {"neurons": ["0:64"]}},
                "sanity-theirs": {"config": {"neurons": ["0:64"], "validation_share": 0.25}},
                "known-theirs": {"config": {"share": 0.25}},  # of six neurons, rounded down
                "theory-theirs": {"config": {"simulated_draws": 1}},
            },
        },
    ),
)


def main() -> int:
    """Run the papers that are named, or all, and return 0 where everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = [paper.name for paper in PAPERS]
    parser.add_argument("papers", nargs="*", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--folder", type=Path, help="where they run, and stay; else removed")
    given = parser.parse_args()
    if unknown := set(given.papers) - set(known):
        parser.error(f"no papers {', '.join(sorted(unknown))}")
    failures = 0
    with contextlib.ExitStack() as opened:
        if given.folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="papers-")
            folder = Path(opened.enter_context(temporary))
        else:
            folder = given.folder
        for paper in PAPERS:
            if not given.papers or paper.name in given.papers:
                failures += run_paper(paper, folder / paper.name)
    return min(failures, 1)


def run_paper(paper: Paper, folder: Path) -> int:
    """Run a paper in a new folder, check what comes out, and return the number of failures."""
    begun, computed = time.monotonic(), _computed()
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ |= {
        "TORCH_HOME": str(folder / "torch"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "FACTBOOK_MONGO": "off",
    }
    for name in ("HF_HUB_CACHE", "FACTBOOK_PROJECT"):
        os.environ.pop(name, None)
    (folder / "experiments.toml").write_text(declaration(paper.name, paper.changes))
    _write(paper, folder)
    _say(f"{paper.name}: stand-ins written in {_computed() - computed:.0f} CPU seconds")
    command = [sys.executable, "-m", "registry.cli", "run", "--here", "--journal-only"]
    status = subprocess.run([*command, *paper.targets], cwd=folder).returncode
    if status:
        _say(f"{paper.name}: factbook run ended with status {status}")
    failures = int(status != 0) + _check(paper, folder)
    seconds = time.monotonic() - begun
    _say(f"{paper.name}: {_computed() - computed:.0f} CPU seconds in {seconds:.0f} s")
    return failures


def _write(paper: Paper, folder: Path) -> None:
    from tests.papers import stand_ins

    write: Callable[[Path], None] = getattr(stand_ins, paper.write)
    write(folder)


def _check(paper: Paper, folder: Path) -> int:
    """Check every dataset that was planned, and return how many are missing or wrong."""
    from registry.catalog.access import open_catalog
    from registry.declare.stage import load_stage
    from registry.plan.project import open_project
    from tests.papers.checks import CheckError, check

    with contextlib.chdir(folder):
        project = open_project(folder / "experiments.toml")
        cells = project.graph.cells
        names = _with_inputs([task.name for task in project.plan(paper.targets).tasks], cells)
        failures = 0
        with open_catalog(folder, "off") as catalog:
            for name in names:
                try:
                    dataset = catalog.dataset(name)
                    check(load_stage(cells[name].stage).output.name, dataset)
                    dataset.close()
                except Exception as error:
                    what = "" if isinstance(error, CheckError) else f"{type(error).__name__}: "
                    failures += 1
                    _say(f"{paper.name}: {name}: {what}{error}")
    _say(f"{paper.name}: {len(names) - failures} of {len(names)} datasets hold")
    return failures


def _with_inputs(names: list[str], cells: Mapping[str, Any]) -> list[str]:
    """Return experiments behind all that they need."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        for need in cells[name].needs.values():
            if need in cells:
                add(need)
        found[name] = None

    for name in names:
        add(name)
    return list(found)


def _computed() -> float:
    """Return the processor's seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
