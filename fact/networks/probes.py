"""Linear probes: logistic regressions of labels on features, trained here or elsewhere.

Source: Oikarinen et al., "Evaluating Neuron Explanations", ICML 2025, arXiv 2506.05774, setting 6:
one for the attributes of birds, on unnormalised features of CLIP.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fact.data.images import write_parts
from fact.data.tables import SHARD_BYTES, activation_part, neuron_summary
from fact.networks.arrays import slices
from fact.networks.config import ApplyProbeConfig, ProbeConfig
from fact.networks.network import choose_device
from fact.networks.weights import read_state
from registry import Input, Inputs, Run, Shards
from registry.suggest import RefusalError, nearest
from registry.wording import counted, verb

VARIABLES = ("activation", "presence", "feature")
"""What features are in the datasets that have some, each (row, column)."""

HISTORY, GRADIENT = 20, 1e-10

Doubles = NDArray[np.float64]


class ProbeError(RefusalError, ValueError):
    """Weights that are none of a linear probe, or features that are not those of one."""


@dataclass(frozen=True)
class LinearProbe:
    """A logit for each label, linear in features.

    Attributes
    ----------
    weight : ndarray
        (label, channel).
    bias : ndarray
        (label,).
    labels : tuple of str
        Names of the labels.
    channels : tuple of str
        Names of the features; none where they are not known.
    trained : tuple of str or None
        Names of the inputs that it was trained on; None where they are not known.
    """

    weight: Doubles
    bias: Doubles
    labels: tuple[str, ...]
    channels: tuple[str, ...] = ()
    trained: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        shapes = self.weight.shape, self.bias.shape
        count = len(self.labels)
        if self.weight.ndim != 2 or self.weight.shape[0] != count or self.bias.shape != (count,):
            raise ProbeError(
                f"weights {shapes[0]} and biases {shapes[1]} of {counted(count, 'label')}; "
                "expected (label, "
                "channel) and (label,)"
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ProbeError("a weight or bias is not finite")

    def logits(self, features: NDArray[np.floating]) -> Doubles:
        """Return logits (row, label) of features (row, channel).

        Raises
        ------
        ProbeError
            If there are others than the probe's channels.
        """
        if features.shape[1] != self.weight.shape[1]:
            raise ProbeError(
                f"features of {counted(features.shape[1], 'channel')}; the probe is of "
                f"{self.weight.shape[1]}"
            )
        return features.astype(np.float64) @ self.weight.T + self.bias


def read_probe(path: Path | str, labels: Sequence[str]) -> LinearProbe:
    """Read the weights of a probe that was trained elsewhere; no code in the file is run.

    Parameters
    ----------
    path : path
        ``.npz``, safetensors, or what torch saved: a state dict, or a whole ``Linear``. It has one
        matrix (label, channel), and one vector (label,) or none.
    labels : sequence of str
        Names of the labels, in order.

    Raises
    ------
    ProbeError
        If it holds anything else, or other than so many labels.
    NetworkError
        If it cannot be read.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        arrays: Mapping[str, Any] = _read_npz(path)
    else:
        arrays = {name: tensor.float().numpy() for name, tensor in read_state(path).items()}
    matrices = [array for array in arrays.values() if array.ndim == 2]
    vectors = [array for array in arrays.values() if array.ndim == 1]
    if len(matrices) != 1 or len(vectors) > 1:
        found = {name: array.shape for name, array in arrays.items()}
        raise ProbeError(f"{path} holds {found}; expected a matrix (label, channel) and a vector")
    bias = vectors[0] if vectors else np.zeros(len(matrices[0]))
    try:
        return LinearProbe(
            matrices[0].astype(np.float64), np.asarray(bias, np.float64), tuple(labels)
        )
    except ProbeError as error:
        raise ProbeError(f"{path}: {error}") from None


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ProbeError(f"no weights at {path}") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ProbeError(f"{path} cannot be read as weights: {error}") from error


# --- training -------------------------------------------------------------------------------


def fit_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.floating],
    config: ProbeConfig | None = None,
    run: Run | None = None,
) -> tuple[Doubles, Doubles, Doubles, float]:
    """Fit a logistic regression for each label.

    Parameters
    ----------
    features : ndarray
        (row, channel).
    labels : ndarray
        (row, label): 0 or 1, or probabilities.
    config : ProbeConfig, optional
        How; see there what is minimised.
    run : Run, optional
        Takes the objective by step.

    Returns
    -------
    weight, bias : ndarray
        (label, channel) and (label,), in double precision.
    objective : ndarray
        (step,) what is minimised, before each step.
    gradient : float
        Largest entry of its gradient at the end, as a size.
    """
    config = config or ProbeConfig()
    device = choose_device(config.device)
    dtype = torch.float32 if config.solver == "adam" or device.type == "mps" else torch.float64
    x = torch.as_tensor(np.asarray(features), dtype=dtype, device=device)
    y = torch.as_tensor(np.asarray(labels), dtype=dtype, device=device)
    linear = _first_weights(x.shape[1], y.shape[1], config).to(device, dtype)
    objective: list[float] = []

    def evaluate() -> Tensor:
        linear.zero_grad()
        fit = nn.functional.binary_cross_entropy_with_logits(linear(x), y)
        found = fit + config.penalty / 2 * linear.weight.square().sum(dim=1).mean()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    def note(value: Tensor) -> None:
        objective.append(value.item())
        if run is not None:
            run.log("objective", objective[-1], len(objective) - 1)
            run.progress(len(objective), config.epochs, "steps")

    if config.solver == "adam":
        adam = torch.optim.Adam(linear.parameters(), lr=config.lr)
        for _ in range(config.epochs):
            note(evaluate())
            adam.step()
    else:
        _descend(linear, evaluate, note, config.epochs)
    evaluate()
    gradients = [part.grad for part in linear.parameters() if part.grad is not None]
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    weight, bias = (part.detach().double().cpu().numpy() for part in linear.parameters())
    return weight, bias, np.array(objective), largest


def _first_weights(n_channels: int, n_labels: int, config: ProbeConfig) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        linear = nn.Linear(n_channels, n_labels)
    if config.solver == "lbfgs":
        for part in linear.parameters():
            nn.init.zeros_(part)
    return linear


def _descend(linear: nn.Linear, evaluate: Any, note: Any, most: int) -> None:
    """Bring the weights to the minimum by L-BFGS, as far as double precision leads."""
    parts = list(linear.parameters())

    def function(flat: Doubles) -> tuple[float, Doubles]:
        vector_to_parameters(torch.as_tensor(flat).to(parts[0]), parts)
        value = evaluate()
        gradients = torch.cat([part.grad.ravel() for part in parts if part.grad is not None])
        return value.item(), gradients.double().cpu().numpy()

    start = parameters_to_vector(parts).detach().double().cpu().numpy()
    note(evaluate())
    limits = {"maxiter": most, "maxfun": 20 * most, "ftol": 0.0, "gtol": GRADIENT}
    found = minimize(
        function,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=lambda intermediate_result: note(torch.tensor(intermediate_result.fun)),
        options={**limits, "maxcor": HISTORY},
    )
    vector_to_parameters(torch.as_tensor(found.x).to(parts[0]), parts)


def train_probe(config: ProbeConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Train a probe on features and labels of the same images."""
    with inputs["features"].open() as opened, inputs["labels"].open() as labelled:
        ids, names = _rows_of(opened), _columns_of(opened)
        values = _labels_of(labelled, ids)
        features = _features_of(opened).values
        labels = tuple(labelled["label"].values.astype(str).tolist())
    n_constant = int((np.ptp(values, axis=0) == 0).sum())
    weight, bias, objective, gradient = fit_probe(features, values, config, run)
    right = right_share(LinearProbe(weight, bias, labels).logits(features), values)
    constant = f"; {counted(n_constant, 'label is', 'labels are')} constant" if n_constant else ""
    sys.stdout.write(
        f"{counted(len(ids), 'input')}, {counted(len(labels), 'label')}, "
        f"{counted(features.shape[1], 'feature')}: objective {objective[-1]:.4f} nats, largest "
        f"gradient {gradient:.2g}, right {100 * right.mean():.2f} % of the time{constant}\n"
    )
    return xr.Dataset(
        {
            "weight": (("label", "channel"), weight),
            "bias": ("label", bias),
            "channel_name": ("channel", np.array(names, dtype=object)),
            "objective": ("step", objective),
            "gradient": gradient,
            "positive_share": ("label", (values >= HALF).mean(axis=0)),
            "accuracy": ("label", right),
            "mean_accuracy": right.mean(),
            "trained": ("training_input", np.unique(ids).astype(object)),
            "n_samples": len(ids),
            "n_labels": len(labels),
            "n_constant": n_constant,
        },
        {
            "label": np.array(labels, dtype=object),
            "channel": np.arange(features.shape[1]),
            "step": np.arange(len(objective)),
        },
    )


HALF = 0.5


def right_share(logits: Doubles, labels: NDArray[np.floating]) -> Doubles:
    """Return the share of rows (label,) where a logit is at least 0 just where a label is shown.

    Parameters
    ----------
    logits, labels : ndarray
        (row, label); a label is shown from 1/2 on.
    """
    return np.asarray(((logits >= 0) == (labels >= HALF)).mean(axis=0, dtype=np.float64))


# --- features -------------------------------------------------------------------------------


def _features_of(dataset: xr.Dataset) -> xr.DataArray:
    """Return features (row, column) of a dataset, lazily."""
    name = next((name for name in VARIABLES if name in dataset), None)
    if name is None:
        raise ProbeError(f"no variable of {', '.join(VARIABLES)} among {list(dataset)}")
    return dataset[name]


def _rows_of(dataset: xr.Dataset) -> NDArray[np.str_]:
    """Return the image of each row of features."""
    return dataset["image"].values.astype(str)


def _columns_of(dataset: xr.Dataset) -> tuple[str, ...]:
    """Return names of the columns of features, numbers where they have none."""
    if "name" in dataset:
        return tuple(str(name) for name in dataset["name"].values)
    return tuple(map(str, range(_features_of(dataset).shape[1])))


def _labels_of(labels: xr.Dataset, ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """Return the labels (row, label) of some images.

    Raises
    ------
    ProbeError
        If one has none.
    """
    found = labels.indexes["image"].astype(str).get_indexer(ids)
    if (found < 0).any():
        missing = ids[found < 0].tolist()
        known = labels.indexes["image"].astype(str)[:1000]
        raise ProbeError(
            f"{len(missing)} of {counted(len(ids), 'input')} {verb(len(missing), 'has', 'have')} "
            f"no labels, as {missing[0]!r}"
            f"{nearest(missing[0], known)}"
        )
    return np.asarray(labels["value"].values[found])


# --- what it says ---------------------------------------------------------------------------


def apply_probe(config: ApplyProbeConfig, inputs: Inputs, run: Run) -> Shards:
    """Apply a probe shard by shard; a stopped run goes on at its next shard.

    Raises
    ------
    ProbeError
        If features are of other channels than the probe's, or an input has no labels.
    """
    probe = _probe_of(inputs["probe"])
    with inputs["activations"].open() as opened:
        ids, features = _rows_of(opened), _features_of(opened)
        own = _columns_of(opened)
        if probe.channels and probe.channels != own:
            raise ProbeError(
                f"the probe is of features {probe.channels[0]!r} to {probe.channels[-1]!r}, these "
                f"are {own[0]!r} to {own[-1]!r}"
            )

        def part(_index: int, rows: slice) -> xr.Dataset:
            logits = probe.logits(features[rows].values)
            values = expit(logits) if config.transform == "sigmoid" else logits
            return activation_part(values.astype(np.float32), ids[rows])

        size = max(1, SHARD_BYTES // (8 * max(len(probe.labels), features.shape[1])))
        writer = write_parts(run, len(ids), size, part)
        variant = f"linear probe {inputs['probe'].name}"
        variant += ", sigmoid" if config.transform == "sigmoid" else ""
        summary = neuron_summary(probe.labels, probe.labels, variant, len(ids))
        if probe.trained is not None:
            summary["trained"] = "training_input", np.array(probe.trained, dtype=object)
        if "labels" in inputs:
            right = _accuracy(probe, features, ids, inputs["labels"], size)
            sys.stdout.write(f"Right {100 * right.mean():.2f} % of the time\n")
            summary["accuracy"] = "neuron", right
            summary["mean_accuracy"] = right.mean()
    return writer.finish(summary)


def _probe_of(source: Input) -> LinearProbe:
    """Return a probe that was declared, or trained here."""
    if source.kind != "probe":
        probe: LinearProbe = source.load()
        return probe
    with source.open() as opened:
        names = ("label", "channel_name", "trained")
        labels, channels, trained = (tuple(opened[n].values.astype(str).tolist()) for n in names)
        weight, bias = opened["weight"].values, opened["bias"].values
        return LinearProbe(weight, bias, labels, channels, trained)


def _accuracy(
    probe: LinearProbe, features: xr.DataArray, ids: NDArray[np.str_], labels: Input, size: int
) -> Doubles:
    with labels.open() as opened:
        known = opened["label"].values.astype(str).tolist()
        if missing := [name for name in probe.labels if name not in known]:
            raise ProbeError(f"no label {missing[0]!r}{nearest(missing[0], known)}")
        columns = [known.index(name) for name in probe.labels]
        values = _labels_of(opened, ids)[:, columns]
    right = np.zeros(len(probe.labels))
    for rows in slices(len(ids), size):
        logits = probe.logits(features[rows].values)
        right += right_share(logits, values[rows]) * len(logits)
    return right / len(ids)
