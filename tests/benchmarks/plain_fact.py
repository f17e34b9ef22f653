"""FaCT in the straight way, as its published code goes about it, on Fashion-MNIST.

All features in one tensor, written and read again; an SAE whose codes are dense, trained by
automatic differentiation; presences and contributions of all images in dense arrays; a pass of the
network for each concept that is drawn, and one backward pass for each rank of a decision. What is
random is drawn by the numbers that factbook draws by, so that both must find the same.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

import fact
from fact.data.fashion_mnist import FashionMNIST
from fact.sae.model import TopKSAE
from fact.sae.sampling import held_out, sample_positions
from tests.benchmarks.memory import peak
from tests.fact.dense_training import DenseTraining

LOADED = 64  # images at a time
SHOWN, SMOOTH, OPAQUE = 16, 3, 99.5


@contextmanager
def hooked(network, layer, hook):
    handle = network.module.get_submodule(layer).register_forward_hook(hook)
    try:
        with network.explanation_mode():
            yield
    finally:
        handle.remove()


def by_position(output):
    return output.movedim(1, -1).flatten(0, 2)


class Spliced:
    """A network with a dense SAE in the place of a layer."""

    def __init__(self, network, layer, encoder, decoder, k):
        self.network, self.layer = network, layer
        self.encoder, self.decoder, self.k = encoder, decoder, k

    def __call__(self, pixels):
        """Return images and logits, connected, and the codes (image, position, concept)."""
        images = self.network.encode(pixels).requires_grad_()
        codes = []

        def replace(_module, _args, output):
            activations = torch.relu(by_position(output) @ self.encoder.T)
            top = activations.topk(self.k, dim=1, sorted=False)
            dense = torch.zeros_like(activations).scatter(1, top.indices, top.values)
            codes.append(dense.view(len(output), -1, len(self.encoder)))
            if dense.requires_grad:
                codes[0].retain_grad()
            rebuilt = codes[0].flatten(0, 1) @ self.decoder.T
            rows, columns = output.shape[2:]
            return rebuilt.view(len(output), rows, columns, -1).movedim(-1, 1)

        with hooked(self.network, self.layer, replace):
            logits = self.network.logits(images)
        return images, logits, codes[0]

    def traced(self, pixels):
        """Return logits, and presence and contribution of all concepts, connected to the images."""
        images, logits, codes = self(pixels)
        best = logits.amax(dim=1).sum()
        (gradient,) = torch.autograd.grad(best, codes, retain_graph=True)
        return images, logits, codes.sum(dim=1), (codes * gradient).sum(dim=1)


def collect(network, layer, pixels, count, file):
    """Write the features of all images as one tensor, and read it."""
    generator, features = np.random.default_rng([0, 0]), []
    for start in range(0, len(pixels), LOADED):
        kept = []

        def keep(_module, _args, output, kept=kept):
            kept.append(output.detach().requires_grad_())
            return kept[0]

        with hooked(network, layer, keep):
            logits = network.logits(network.encode(pixels[start : start + LOADED]))
            logits.amax(dim=1).sum().backward()
        x, gradient = kept[0].detach().flatten(2), kept[0].grad.flatten(2)
        drawn = sample_positions((x * gradient).sum(dim=1).abs(), count, generator)
        features.append(x.transpose(1, 2)[drawn.image, drawn.position])
    torch.save(torch.cat(features), file)
    return torch.load(file)


def train(network, layer, features, held_out_images, held_out_labels, sizes):
    """Return the weights of the best SAE, its accuracy, and the losses."""
    scale = float((features.double() ** 2).sum(dim=1).mean().sqrt())
    start = TopKSAE.initialise(
        sizes["n_concepts"], features.shape[1], sizes["k"], torch.Generator().manual_seed(0)
    )
    per_epoch = -(-len(features) // sizes["batch"])
    training = DenseTraining(
        start.encoder.detach(),
        start.decoder.detach().contiguous(),
        sizes["k"],
        steps=per_epoch * sizes["epochs"],
        warmup=per_epoch,
        decay_start=2 * per_epoch,
        lr=1e-3,
        dead_after=len(features) // 2,
    )
    losses, best = [], (-1.0, None)
    for epoch in range(sizes["epochs"]):
        order = np.random.default_rng([0, epoch, 1]).permutation(len(features))
        for first in range(0, len(order), sizes["batch"]):
            batch = features[order[first : first + sizes["batch"]]] / scale
            losses.append(training.step(batch)[1])
        if epoch % 2 == 0 and epoch + 1 < sizes["epochs"]:
            continue
        weights = training.encoder.detach().clone(), training.decoder.detach().clone()
        spliced, right = Spliced(network, layer, *weights, sizes["k"]), 0
        with torch.no_grad():
            for first in range(0, len(held_out_images), 128):
                logits = spliced(held_out_images[first : first + 128])[1]
                own = held_out_labels[first : first + 128]
                right += int((logits.argmax(dim=1).numpy() == own).sum())
        accuracy = right / len(held_out_images)
        if accuracy > best[0]:
            best = accuracy, weights
    return *best, losses


def measure(spliced, pixels):
    """Return dense logits, presences and contributions, and what they say together."""
    logits, presences, contributions = [], [], []
    for start in range(0, len(pixels), LOADED):
        some = pixels[start : start + LOADED]
        _, own, presence, contribution = spliced.traced(some)
        for part, found in zip(
            (logits, presences, contributions), (own, presence, contribution), strict=True
        ):
            part.append(found.detach())
    logits, presence, contribution = map(torch.cat, (logits, presences, contributions))
    positive = contribution.clip(0, None)
    share = 100 * positive / positive.sum(dim=1, keepdim=True)
    order = share.sort(dim=1, descending=True).indices
    covered = torch.gather(share, 1, order).cumsum(dim=1)
    statistics = {
        "image_l0": float((presence.abs() > 0).float().sum(dim=1).mean()),
        "concepts_for_80": float(((covered < 80).sum(dim=1) + 1).float().mean()),
        "alive_share": float((contribution.abs().sum(dim=0) > 0).float().mean()),
    }
    return presence, contribution, statistics


def colours(image, weights):
    """Return a picture (y, x, rgba) of weights, by NumPy, as the authors of B-cos paint them."""
    map = (image * weights).sum(axis=0)
    scaled = np.maximum(weights / (np.abs(weights).max(axis=0) + 1e-12), 0)
    rgb = scaled[:3] / (scaled[:3] + scaled[3:] + 1e-12)
    strength = np.where(map < 0, 0, np.linalg.norm(weights, axis=0))
    smoothed = torch.nn.functional.avg_pool2d(
        torch.from_numpy(strength)[None, None], SMOOTH, stride=1, padding=SMOOTH // 2
    )[0, 0].numpy()
    opacity = np.clip(smoothed / (np.percentile(smoothed, OPAQUE) + 1e-12), 0, 1)
    return np.concatenate([rgb, opacity[None]]).transpose(1, 2, 0)


def draw(spliced, pixels, presence, concepts):
    """Return pictures (concept, rank, y, x, rgba): a pass for the images of each concept."""
    drawn = []
    for concept in concepts:
        rows = presence[:, concept].topk(SHOWN).indices.numpy()
        images, _, found, _ = spliced.traced(pixels[rows])
        found[:, concept].sum().backward(inputs=[images])
        arrays = images.detach().numpy(), images.grad.numpy()
        drawn.append([colours(*pair) for pair in zip(*arrays, strict=True)])
    return np.array(drawn)


def decide(spliced, pixels, most):
    """Return maps of contributions (image, rank, y, x): a backward pass for each rank."""
    images, _, _, contribution = spliced.traced(pixels)
    top, maps = contribution.topk(most, dim=1).indices, []
    for rank in range(most):
        images.grad = None
        chosen = contribution[torch.arange(len(images)), top[:, rank]].sum()
        chosen.backward(inputs=[images], retain_graph=True)
        for image, weights in zip(images.detach().numpy(), images.grad.numpy(), strict=True):
            colours(image, weights)
        maps.append((images.detach() * images.grad).sum(dim=1).numpy())
    return np.stack(maps, axis=1)


def main(weights, out, sizes, other=None):
    """Run all of it; from the SAE on with the weights of another run, if they are given.

    Two trainings drift apart by what single precision rounds, once two values of a sample change
    places at its k-th; what is made with an SAE is to be compared with one SAE.
    """
    data = FashionMNIST(n_train=sizes["n_train"], n_test=sizes["n_test"])
    splits = {}
    for split in ("train", "test"):
        splits[split] = data.read(data.ids(split)), data.labels(split)
    network = fact.load_network(weights)
    (pixels, labels), (tested, _) = splits["train"], splits["test"]
    kept_out, layer = held_out(labels, 0), sizes["layer"]
    features = collect(
        network, layer, pixels[~kept_out], sizes["samples_per_image"], out / "features.pt"
    )
    own = pixels[kept_out], labels[kept_out]
    accuracy, trained, losses = train(network, layer, features, *own, sizes)
    if other is not None:
        given = np.load(other)
        trained = torch.from_numpy(given["encoder"]), torch.from_numpy(given["decoder"])
    spliced = Spliced(network, layer, *trained, sizes["k"])
    presence, contribution, statistics = measure(spliced, tested)
    torch.save({"presence": presence, "contribution": contribution}, out / "neurons.pt")
    in_most = np.argsort(-(presence > 0).float().mean(dim=0).numpy(), kind="stable")
    concepts = np.sort(in_most[: sizes["drawn"]])
    pictures = draw(spliced, tested, presence, concepts)
    maps = decide(spliced, tested[: sizes["decided"]], sizes["most"])
    used = peak()
    np.savez(
        out / "found.npz",
        presence=presence.numpy(),
        contribution=contribution.numpy(),
        losses=losses,
        concepts=concepts,
        pictures=pictures,
        maps=maps,
    )
    return statistics | {"peak": used, "accuracy": accuracy}


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    told = main(sys.argv[1], folder, json.loads(sys.argv[3]), *sys.argv[4:])
    sys.stdout.write(json.dumps(told) + "\n")
