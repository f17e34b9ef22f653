"""The whole of FaCT on Fashion-MNIST, against the straight way to it, with the same results."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

import registry
from fact.data.fashion_mnist import find_folder
from tests.benchmarks.table import Table

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(find_folder() is None, reason="Fashion-MNIST is not here"),
]

SIZES = {
    "n_train": 3000,
    "n_test": 6000,
    "layer": "features.2",
    "samples_per_image": 24,
    "n_concepts": 4096,
    "k": 16,
    "batch": 1024,
    "epochs": 8,
    "drawn": 512,
    "decided": 20,
    "most": 16,
}

NETWORK = """
[datasets.fashion]
kind = "fashion-mnist"
n_train = {n_train}
n_test = {n_test}

[experiments.classifier]
stage = "fact.train_classifier"
needs = {{ images = "fashion" }}
config = {{ epochs = 2 }}
"""

REST = """
[experiments.features]
stage = "fact.collect_features"
needs = {{ images = "fashion", network = "classifier" }}
config = {{ layer = "{layer}", samples_per_image = {samples_per_image}, batch = 64 }}

[experiments.sae]
stage = "fact.train_sae"
needs = {{ features = "features" }}
config = {{ n_concepts = {n_concepts}, k = {k}, epochs = {epochs}, batch = {batch} }}

[experiments.concepts]
stage = "fact.measure_concepts"
needs = {{ sae = "sae", images = "fashion" }}
config = {{ batch = 64 }}

[experiments.gallery]
stage = "fact.draw_concepts"
needs = {{ concepts = "concepts" }}
config = {{ most = {drawn}, pictures = false }}

[experiments.decisions]
stage = "fact.explain_decisions"
needs = {{ concepts = "concepts", gallery = "gallery" }}
config = {{ images = {ids}, most = {most}, pictures = false }}
"""
ROUNDS, FASTER, SMALLER = 2, 4, 2
SAME = 40  # steps before rounding has drawn two trainings apart


def told(*command):
    """Run a module in a process of its own; return what it tells, and the seconds that it took."""
    start = time.perf_counter()
    line = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(line, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"seconds": seconds}


def read(root, *names):
    catalog = registry.open_catalog(root, "off")
    return [catalog.dataset(name).load() for name in names]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("fact")
    (root / "network").mkdir()
    (root / "network" / "experiments.toml").write_text(NETWORK.format(**SIZES))
    told("tests.benchmarks.whole_fact", root / "network")
    weights = registry.open_catalog(root / "network", "off").path("classifier")
    ids = json.dumps([f"test/{number:05d}" for number in range(SIZES["decided"])])
    rest = NETWORK.format(**SIZES) + REST.format(**SIZES, ids=ids)
    sides = {"plain": [], "factbook": []}
    for number in range(ROUNDS):
        plain, ours = (root / f"{name}-{number}" for name in sides)
        plain.mkdir()
        shutil.copytree(root / "network", ours, symlinks=True)
        (ours / "experiments.toml").write_text(rest)
        sides["factbook"].append(told("tests.benchmarks.whole_fact", ours))
        (sae,) = read(ours, "sae")
        np.savez(plain / "sae.npz", encoder=sae["encoder"], decoder=sae["decoder"])
        given = weights, plain, json.dumps(SIZES), plain / "sae.npz"
        sides["plain"].append(told("tests.benchmarks.plain_fact", *given))
    return sides, np.load(plain / "found.npz"), ours


def test_both_find_the_same(found, table: Table):
    sides, plain, root = found
    told_by = sides["plain"][0]
    sae, concepts, gallery, decisions = read(root, "sae", "concepts", "gallery", "decisions")
    losses = sae["reconstruction_loss"].values
    np.testing.assert_allclose(losses[:SAME], plain["losses"][:SAME], rtol=1e-3)
    assert losses[-SAME:].mean() == pytest.approx(plain["losses"][-SAME:].mean(), rel=0.02)
    assert float(sae["best_accuracy"]) == pytest.approx(told_by["accuracy"], abs=0.03)
    for name in ("presence", "contribution"):
        own, other = concepts[name].values, plain[name]
        missed = np.abs(own - other).sum() / np.abs(other).sum()
        table.within(f"{name} that differs from the plain script's", missed, 1e-3, "")
    for name in ("image_l0", "concepts_for_80", "alive_share"):
        assert float(concepts[name]) == pytest.approx(told_by[name], rel=1e-3)
    np.testing.assert_array_equal(gallery["concept"].values, plain["concepts"])
    painted = np.abs(gallery["explanation"].values / 255 - plain["pictures"]).mean()
    missed = np.abs(decisions["concept_map"].values - plain["maps"]).sum()
    missed /= np.abs(plain["maps"]).sum()
    table.within("colours that differ from the plain script's", painted, 5e-3, "")
    table.within("maps that differ from the plain script's", missed, 5e-3, "")


def test_it_takes_a_quarter_of_the_time_and_half_the_memory(found, table: Table):
    sides = found[0]
    least = {
        name: {what: min(own[what] for own in told_by) for what in ("seconds", "peak")}
        for name, told_by in sides.items()
    }
    plain, ours = least["plain"], least["factbook"]
    name = f"FaCT on {SIZES['n_train']:,} and {SIZES['n_test']:,} images"
    for what, unit, wanted in (("seconds", "s", FASTER), ("peak", "MiB", SMALLER)):
        sides = ours[what], plain[what]
        table.faster(name, *sides, wanted, against="plain script", unit=unit, asked=wanted)
