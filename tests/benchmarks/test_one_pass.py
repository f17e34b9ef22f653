"""One pass of the network per image, whatever the number of concepts, on a ResNet-50.

What it is measured against goes as factbook went before: the whole network runs once, and is gone
back through once, for every pair of image and concept, and pictures are painted by NumPy.
"""

import subprocess
import sys
import time
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.optimize import nnls

from fact.encode.craft import coefficients
from fact.networks.bcos_networks import bcos_network
from fact.networks.layers import capture, to_positions
from fact.sae.gradients import rows_at_once
from fact.sae.model import TopKSAE, weighted_rows
from fact.traces.attribution import explain_concepts, paint
from fact.traces.measurement import measure_batch
from fact.traces.pairs import Pairs, map_pairs
from fact.traces.spliced import Codes, ConceptSource, SAEConcepts, forward_spliced
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

LAYERS = {"layer2": (512, 8192, 32), "layer3": (1024, 8192, 32), "layer4": (2048, 16_384, 16)}
"""Channels, concepts and k, as released."""

SIDE, N_CONCEPTS = 224, 20
ROUNDS = 2
FASTER, ASKED = {"layer2": 2.5, "layer3": 1.8, "layer4": 1.8}, 5
MOST = 1.3


def processor(*calls, rounds=ROUNDS):
    """Return the fewest seconds of a processor that each call took, alternated.

    What else runs on the machine counts for little.
    """
    return least(*calls, rounds=rounds, clock=time.process_time, warm_up=True)


@pytest.fixture(scope="module")
def network():
    return bcos_network("resnet50_long", pretrained=False)


def source_of(network, layer):
    channels, concepts, k = LAYERS[layer]
    sae = TopKSAE.initialise(concepts, channels, k, torch.Generator().manual_seed(0))
    return ConceptSource(network, layer, sae.requires_grad_(False))


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def paint_plainly(weights, values):
    scaled = np.maximum(weights / (np.abs(weights).max(axis=-3, keepdims=True) + 1e-12), 0)
    rgb = scaled[:, :3] / (scaled[:, :3] + scaled[:, 3:] + 1e-12)
    strength = np.where(values < 0, 0, np.linalg.norm(weights, axis=-3))
    for axis in (-2, -1):
        edges = [(0, 0)] * 3
        edges[axis] = (1, 1)
        strength = sliding_window_view(np.pad(strength, edges), 3, axis=axis).mean(axis=-1)
    top = np.percentile(strength, 99.5, axis=(-2, -1), keepdims=True)
    opacity = np.clip(strength / (top + 1e-12), 0, 1)
    picture = np.concatenate([rgb, opacity[:, None]], axis=1).transpose(0, 2, 3, 1)
    return np.rint(255 * picture).astype(np.uint8)


def encode_plainly(self, positions):
    rows, sae = positions.detach().flatten(0, 1), self._sae
    with torch.no_grad():
        pieces = rows.split(rows_at_once(self.count, rows.device))
        values, indices = map(torch.cat, zip(*map(sae.encode_sparse, pieces), strict=True))
    shape = (*positions.shape[:2], -1)
    return Codes(values.view(shape), indices.view(shape))


@patch.object(SAEConcepts, "encode", encode_plainly)
def by_pair(source, images, asked):
    """Draw each concept from a forward and a backward pass of its own, as commit 27131a7 did."""
    drawn = []
    for image, concept in asked:
        with torch.enable_grad():
            spliced = forward_spliced(source, source.network.encode(images[image][None]))
            ones = torch.ones_like(spliced.codes.values)
            own = spliced.concepts.selects(spliced.codes, torch.tensor([concept]))
            gradient = spliced.at_input(ones * own)[0]
        values = (gradient * spliced.image.detach()).sum(dim=1)
        drawn.append(paint_plainly(gradient.numpy(), values.numpy())[0])
    return np.stack(drawn)


def by_image(source, images, asked):
    """Draw them from one pass of the network for each image."""
    image, concept = np.array(asked).T
    drawn = np.empty((len(asked), SIDE, SIDE, 4), np.uint8)
    for pairs, weights, values in map_pairs(
        source.network, explain_concepts(source), Pairs(images, image, concept)
    ):
        drawn[pairs] = paint(weights, values, images[image[pairs]], 3)
    return drawn


@pytest.mark.parametrize("layer", LAYERS)
def test_concepts_are_drawn_several_times_as_fast(network, layer, table: Table):
    source, images = source_of(network, layer), pictures(1)
    with torch.no_grad():
        codes = forward_spliced(source, network.encode(images)).codes
    most = np.bincount(codes.indices.flatten(), codes.values.detach().flatten()).argsort()[::-1]
    asked = [(0, int(concept)) for concept in most[:N_CONCEPTS]]
    few = asked[:2]  # each costs the same, and a slow one takes long
    before, now = by_pair(source, images, few), by_image(source, images, few)
    assert np.abs(before.astype(int) - now).max() <= 1
    slow, fast = processor(
        lambda: by_pair(source, images, few), lambda: by_image(source, images, asked)
    )
    table.faster(
        f"a concept drawn at {layer}, of {N_CONCEPTS} by one pass",
        fast / len(asked),
        slow / len(few),
        FASTER[layer],
        against="a pass for each",
        asked=ASKED,
        note="processor time",
    )


def bare(source, encoded):
    """Run the network forwards and back, and multiply as the SAE must: nothing else."""
    network, sae = source.network, source.sae
    image = encoded.detach().requires_grad_()
    with (
        torch.enable_grad(),
        network.explanation_mode(),
        capture(network.module, source.layer) as captured,
    ):
        logits = network.logits(image)
        logits.amax(dim=1).sum().backward(inputs=[image])
    rows = to_positions(captured.output.detach()).flatten(0, 1)
    for some in rows.split(512):
        some @ sae.encoder.T
    indices = torch.randint(sae.n_concepts, (len(rows), sae.k))
    values = torch.rand(len(rows), sae.k, requires_grad=True)
    with torch.enable_grad():
        rebuilt = weighted_rows(sae.decoder.T, indices, values)
        torch.autograd.grad(rebuilt, values, rows)  # the derivative by the codes
    weighted_rows(sae.encoder, indices, values.detach())  # and back to the layer


@pytest.mark.parametrize("layer", LAYERS)
def test_measuring_costs_little_more_than_its_passes_and_products(network, layer, table: Table):
    source, images = source_of(network, layer), pictures(4)
    encoded, labels = network.encode(images), np.zeros(4, dtype=np.int64)
    plain, ours = processor(
        lambda: bare(source, encoded),
        lambda: measure_batch(source, "prediction", images, labels),
    )
    name, against = f"4 images measured at {layer}", "passes and products alone"
    table.costs(name, ours, plain, MOST, against=against, asked=MOST, note="processor time")


def test_coefficients_of_craft_are_solved_together(table: Table):
    random = np.random.default_rng(0)
    basis, rows = random.gamma(0.3, size=(16, 2048)), random.gamma(0.3, size=(32 * 49, 2048))
    given = torch.from_numpy(rows.astype(np.float32))

    def one_by_one():
        unitary, triangle = np.linalg.qr(basis.T)
        return np.array([nnls(triangle, row)[0] for row in rows.astype(np.float32) @ unitary])

    np.testing.assert_allclose(coefficients(given, basis).numpy(), one_by_one(), atol=1e-6)
    slow, fast = processor(one_by_one, lambda: coefficients(given, basis), rounds=5)
    table.faster("coefficients of CRAFT", fast, slow, 1, against="one by one")


HELD_OUT = """
from types import SimpleNamespace
import numpy as np, torch
from fact.sae.training import HeldOutAccuracy
from tests.benchmarks.memory import peak
from tests.benchmarks.test_one_pass import SIDE, bcos_network, source_of

source = source_of(bcos_network("resnet50_long", pretrained=False), "layer2")
ids = np.array([f"train/{number}" for number in range(40)])
images = SimpleNamespace(read=lambda own, _: np.zeros((len(own), SIDE, SIDE, 3), np.uint8))
labels = np.zeros(len(ids), dtype=np.int64)
accuracy = HeldOutAccuracy(source.network, source.layer, images, ids, labels, None, ids)
before = peak()
accuracy(source.sae)
print(before, peak())
"""


def test_held_out_images_are_evaluated_in_a_gibibyte(table: Table):
    command = [sys.executable, "-c", HELD_OUT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, used = map(float, done.stdout.split())
    note = f"beside the {before:,.0f} MiB of the program, its network and its SAE"
    name = "memory of evaluating 40 held-out images at layer2"
    table.within(name, used - before, 1024, "MiB", asked=1e9 / 2**20, note=note)
