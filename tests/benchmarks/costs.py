"""What the largest settings of both papers cost: rates of this machine, and arithmetic with them.

``python -m tests.benchmarks.costs`` measures for some minutes and prints the tables of
``docs/costs.md``. Networks are untrained, of their real size; images are noise. What a GPU does is
not measured but taken from what its maker publishes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torchvision
import xarray as xr
from PIL import Image

import evals
from fact.networks.bcos_networks import bcos_network
from fact.sae.config import SAEConfig
from fact.sae.estimates import estimate_sae
from fact.sae.model import TopKSAE
from fact.sae.sampling import draw_features
from fact.sae.steps import Trainer, TrainingConfig
from fact.traces.contributions import trace_batch
from fact.traces.spliced import ConceptSource, picks
from registry.terminal import duration
from tests.benchmarks.test_feature_disk import drop_from_cache, part, write

TRAINING, HELD_OUT, VALIDATION = 1_281_167, 50_000, 50_000
"""Images of ImageNet."""
LAYER = "features.norm5"
CHANNELS, SAMPLES, POSITIONS, CONCEPTS, K = 1024, 36, 49, 16_384, 16
"""36 of the 49 positions of an image, so that it takes 147,456 bytes, as published."""
EPOCHS, BATCH, EVALUATIONS = 16, 32_786, 9
DENSENET, VIT, SIGLIP = 6.0e9, 35.1e9, 690e9
"""Operations of one image forward; see ``docs/papers.md``."""
IMAGENET_BYTES = 110_000
"""Mean of a JPEG of ImageNet."""
MAPS, DINO, ENCODING_BYTES = VALIDATION // 20 * 300, 0.6e15, 1536
"""Of the strongest twentieth of images for each concept, where an image has 300 concepts: each map
goes back from the layer to the image. Operations of DINOv2 on all images."""
ROUNDS = 3
N_NEURONS, N_CONCEPTS, N_METRICS = 2048, 1000, 18
SIDE = 224


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second.

    Attributes
    ----------
    forward, collect, measure : float
        Images that DenseNet-121 sees; of which features are drawn; of which concepts are measured.
    vit : float
        Images that ViT-B/16 sees.
    samples : float
        Samples that the SAE is trained on.
    decode : float
        Images that are decoded and cut to size, on all cores.
    write, read : float
        Bytes to the disk, synced, and from it.
    scores : float
        Scores of 50,000 inputs: of a neuron, a concept and a metric.
    """

    forward: float
    collect: float
    measure: float
    vit: float
    samples: float
    decode: float
    write: float
    read: float
    scores: float


@dataclass(frozen=True)
class Stage:
    """What a stage asks for: seconds by what takes them, side by side; bytes of disk and memory."""

    name: str
    seconds: dict[str, float]
    disk: float
    memory: float

    @property
    def limit(self) -> str:
        """What takes longest."""
        return max(self.seconds, key=self.seconds.__getitem__)

    @property
    def time(self) -> str:
        """How long it takes, and by what."""
        return f"{duration(self.seconds[self.limit])} ({self.limit})"


PARTS = 4 * 32 * 2**20
"""Bytes of the parts that are under way to the disk."""


def fact(rates: Rates) -> list[Stage]:
    """Return the stages of FaCT at its largest: DenseNet-121, norm5, all of ImageNet."""
    images = TRAINING - HELD_OUT
    features = images * SAMPLES * CHANNELS * 4.0
    config = {"n_concepts": CONCEPTS, "batch": BATCH, "memory": SAEConfig.memory}
    sizes = {"features": {"channel": CHANNELS, "sample": images * SAMPLES}}
    sae = estimate_sae(config, sizes, {})
    assert sae is not None
    assert sae.disk is not None
    assert sae.memory is not None
    active = 2 * K * POSITIONS
    presences = VALIDATION * min(active, CONCEPTS) * 8.0
    return [
        Stage(
            "features",
            {
                "network": images / rates.collect,
                "decoding": images / rates.decode,
                "disk": features / rates.write,
            },
            features,
            PARTS + 4 * 2**30,
        ),
        Stage(
            "sae",
            {
                "training": EPOCHS * images * SAMPLES / rates.samples
                + EVALUATIONS * HELD_OUT / rates.forward,
                "decoding": EVALUATIONS * HELD_OUT / rates.decode,
                "disk": EPOCHS * features / rates.read,
            },
            3 * sae.disk,
            sae.memory,
        ),
        Stage(
            "concepts",
            {
                "network": VALIDATION / rates.measure,
                "decoding": VALIDATION / rates.decode,
                "disk": presences / rates.write,
            },
            presences,
            PARTS + 4 * 2**30,
        ),
        Stage(
            "encodings",
            {"network": (2 * MAPS + DINO / DENSENET) / rates.forward},
            MAPS * ENCODING_BYTES,
            4.0 * 2**30,
        ),
    ]


def neuron_eval(rates: Rates) -> list[Stage]:
    """Return the stages of Neuron Eval that cost most: ImageNet, ViT-B/16 and SigLIP SO400M."""
    activations = 4.0 * VALIDATION * N_NEURONS
    labels = 4.0 * VALIDATION * N_CONCEPTS
    scores = N_METRICS * N_NEURONS * N_CONCEPTS
    decoding = VALIDATION / rates.decode
    return [
        Stage("neurons (ViT-B/16)", {"network": VALIDATION / rates.vit, "decoding": decoding},
              activations, 4.0 * 2**30),
        Stage("pseudo-labels (SigLIP SO400M)",
              {"network": VALIDATION / rates.vit * SIGLIP / VIT, "decoding": decoding},
              labels, 8.0 * 2**30),
        Stage("scores (18 metrics, 2,048 neurons, 1,000 concepts)",
              {"processor": scores / rates.scores}, 4.0 * scores, 2 * (activations + labels)),
    ]  # fmt: skip


# -- rates ---------------------------------------------------------------------------------------

PEAK = 67e12
"""Operations a second in float32 outside of tensor cores, by NVIDIA's data sheet of an H100 SXM."""
CORES, NVME_WRITE, NVME_READ = 16, 5e9, 7e9
"""Beside each GPU: cores that decode, and a disk of what makers publish for PCIe 4."""


def of_gpus(here: Rates, gpus: int) -> Rates:
    """Return what GPUs do at their published peak, beside cores like those of this machine.

    What a stage takes beside a forward pass is in proportion as it is here. The disk is one: who
    shares it has no more of it.
    """
    forward = gpus * PEAK / DENSENET
    return Rates(
        forward=forward,
        collect=forward * here.collect / here.forward,
        measure=forward * here.measure / here.forward,
        vit=gpus * PEAK / VIT,
        samples=gpus * PEAK / (4 * CONCEPTS * CHANNELS),
        decode=gpus * CORES * here.decode / CPUS,
        write=NVME_WRITE,
        read=NVME_READ,
        scores=gpus * CORES * here.scores / CPUS,
    )


CPUS = os.cpu_count() or 1


def best(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the seconds that a call takes with all cores: the least of some, after one to warm up.

    It is the processor time of one thread, by the number of cores: what else runs does not count.
    """
    call()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken) / CPUS


def measure() -> Rates:
    """Measure this machine's processor and disk."""
    torch.set_num_threads(1)
    forward, collect, traced = _network_rates(4)
    write_rate, read_rate = _disk_rates()
    return Rates(
        forward, collect, traced, _vit(4), _samples(), _decoded(), write_rate, read_rate, _scores()
    )


def _network_rates(n_images: int) -> tuple[float, float, float]:
    network = bcos_network("densenet121_long")
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (n_images, SIDE, SIDE, 3), dtype=np.uint8)
    sae = TopKSAE.initialise(CONCEPTS, CHANNELS, K, torch.Generator().manual_seed(0))
    source = ConceptSource(network, LAYER, sae.requires_grad_(False))

    def forward() -> None:
        with torch.no_grad():
            network.logits(network.encode(pixels))

    def collect() -> None:
        draw_features(network, LAYER, pixels, SAMPLES, generator)

    def measured() -> None:
        picked = picks(network, "prediction", None, np.zeros(n_images, np.int64), slice(None))
        trace_batch(source, network.encode(pixels), *picked)

    found = [n_images / best(call) for call in (forward, collect, measured)]
    return found[0], found[1], found[2]


def _vit(n_images: int) -> float:
    network = torchvision.models.vit_b_16().eval()
    images = torch.rand(n_images, 3, SIDE, SIDE)
    with torch.no_grad():
        return n_images / best(lambda: network(images))


def _samples(batch: int = 4096) -> float:
    sae = TopKSAE.initialise(CONCEPTS, CHANNELS, K, torch.Generator().manual_seed(0))
    trainer = Trainer(sae, TrainingConfig(steps=100))
    numbers = np.random.default_rng(0).standard_normal((batch, CHANNELS), dtype=np.float32)
    return batch / best(lambda: trainer.step(numbers / CHANNELS**0.5))


def _decoded() -> float:
    """Return images that are decoded a second: as many bytes as those of ImageNet have."""
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    texts = []
    for quality in range(5, 96, 5):
        file = BytesIO()
        Image.fromarray(noise).save(file, "JPEG", quality=quality)
        texts.append(file.getvalue())
    text = min(texts, key=lambda each: abs(len(each) - IMAGENET_BYTES))

    def decode() -> None:
        image = Image.open(BytesIO(text)).convert("RGB")
        image.resize((341, 256)).crop((58, 16, 58 + SIDE, 16 + SIDE))

    return 1 / best(decode, 20)


def _disk_rates() -> tuple[float, float]:
    """Return what goes to the disk, and comes from it, by the clock: the best of some."""
    parts = [part(index, 2**13, CHANNELS) for index in range(8)]
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    written, read = [], []
    try:
        for index in range(ROUNDS):
            start = time.perf_counter()
            write(parts, folder / str(index))
            written.append(time.perf_counter() - start)
            files = sorted((folder / str(index)).iterdir())
            size = sum(path.stat().st_size for path in files)
            for path in files:
                drop_from_cache(path)
            start = time.perf_counter()
            for path in files:
                path.read_bytes()
            read.append(time.perf_counter() - start)
        return size / min(written), size / min(read)
    finally:
        shutil.rmtree(folder)


def _scores(count: int = 256) -> float:
    generator = np.random.default_rng(0)
    activations = generator.random((VALIDATION, count), dtype=np.float32)
    labels = np.eye(count, dtype=bool)[generator.integers(0, count, VALIDATION)]
    given = (
        xr.DataArray(activations, dims=("input", "neuron")),
        xr.DataArray(labels, dims=("input", "concept")),
    )
    call = partial(evals.score_matrix, *given, alphas=(0.005,), lams=(1.0,))
    n_scores = sum(scores.size for scores in call().data_vars.values())
    return n_scores / best(call)


# -- tables --------------------------------------------------------------------------------------


def table(columns: Sequence[Sequence[Stage]]) -> str:
    """Return stages as a table of Markdown: the same stages on each machine."""
    rows = ["| stage | here | 1 GPU | 8 GPUs | disk | memory |", "|---|---|---|---|---:|---:|"]
    for here, one, eight in zip(*columns, strict=True):
        sizes = f"{here.disk / 1e9:,.1f} GB | {here.memory / 1e9:,.1f} GB"
        rows.append(f"| {here.name} | {here.time} | {one.time} | {eight.time} | {sizes} |")
    return "\n".join(rows)


def main() -> None:
    """Print rates and tables."""
    here = measure()
    machines = here, of_gpus(here, 1), of_gpus(here, 8)
    text = "\n".join(f"{name}: {value:,.1f}" for name, value in vars(here).items())
    tables = (table([stages(rates) for rates in machines]) for stages in (fact, neuron_eval))
    sys.stdout.write("\n\n".join([f"{CPUS} cores\n{text}", *tables]) + "\n")


if __name__ == "__main__":
    main()
