"""Scores of every pair of a neuron and a concept, as labelled arrays."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

import registry
from evals.kernels.blocks import BlockStatistics, map_statistics, most_neurons, score_arrays
from evals.kernels.statistics import DRAWING, LABEL_THRESHOLD, AnyArray, Drawing
from evals.metrics.registered import find_metric, find_metrics
from evals.metrics.table import DEFAULTS, Metric, Parameters
from evals.metrics.tolerance import Tolerance, faults_of_parts, faults_text, faulty_names, probed
from evals.scoring.config import ScoringConfig
from evals.scoring.labelled import align, pair_datasets, read_columns, take_neurons
from evals.scoring.original_rules import metrics_by_rule
from evals.scoring.seen_images import count_seen, seen_line
from registry.store.shards import Shards

PAIR = ("neuron", "concept")
SWEPT = {
    "alpha": "fraction of inputs at which a neuron is active",
    "lam": "weight of how common a concept is",
}


def score(
    metric: str | Metric,
    activations: AnyArray,
    labels: AnyArray,
    *,
    alpha: float | None = None,
    lam: float = 1.0,
    seed: int = 0,
    drawing: Drawing = DRAWING,
    block_size: int | None = None,
    workers: int | None = None,
) -> xr.DataArray:
    """Score how well each concept explains each neuron.

    Parameters
    ----------
    metric : str or Metric
        A row of the table of metrics, as ``"auprc"``.
    activations : array
        (input, neuron): NumPy, torch, pandas, SciPy-sparse, dask or xarray. A labelled array may
        be (image, concept): then concepts are the neurons.
    labels : array
        (input, concept), or (image, label): 0 or 1, or probabilities. Put in the activations'
        order by the exact names of inputs. Rows of plain arrays, and those of a pandas object
        with the default index, have no names: they stand in the order of the activations.
    alpha : float or None
        Fraction of inputs at which a neuron is active, in (0, 1]; None where activations are 0 or
        1 already.
    lam : float
        Weight of how common a concept is, in ``wpmi``.
    seed : int
        Of the inputs that some metrics draw by neuron. What a metric does not need is ignored.
    drawing : Drawing
        How many of these, and from how many of the strongest.
    block_size, workers : int, optional
        Neurons that are scored at once, which bounds the memory, and in how many threads; by
        default as many as there are processors. Neither changes the result by more than
        rounding, some 1e-15 of it.

    Returns
    -------
    xr.DataArray
        (neuron, concept) float64, NaN where undefined, with attributes ``long_name``, ``units``,
        ``valid_range`` (its bounds, where it has them), ``alpha`` (where it counts) and
        ``undefined``, the number of NaN.

    Raises
    ------
    UnknownMetricError
        If there is no such metric.
    AlignmentError
        If the arrays are not of the same inputs, or have other dimensions.
    ValueError
        If alpha is no fraction, is missing where activations are not 0 or 1, or there are NaN.
    """
    row = probed(find_metric(metric))
    activations, labels = align(activations, labels)
    parameters = Parameters(alpha=alpha, lam=lam, seed=seed, drawing=drawing)
    columns = read_columns(activations), read_columns(labels, "labels")
    scores = score_arrays([row], *columns, parameters, block_size=block_size, workers=workers)
    coords = {"neuron": activations["neuron"], "concept": labels["concept"]}
    result = xr.DataArray(scores[row.name], coords, PAIR, name=row.name)
    return result.assign_attrs(_attributes(row, result.values, parameters))


def score_matrix(
    activations: AnyArray,
    labels: AnyArray,
    metrics: Sequence[str | Metric] | None = None,
    alphas: Sequence[float] = (),
    *,
    lams: Sequence[float] = (),
    seed: int = 0,
    drawing: Drawing = DRAWING,
    block_size: int | None = None,
    workers: int | None = None,
) -> xr.Dataset:
    """Score every pair with many metrics in one pass that shares sorts, counts and products.

    Parameters
    ----------
    activations, labels : array
        As for `score`.
    metrics : sequence of str or Metric, optional
        Names in the table; all of it by default.
    alphas : sequence of float
        Fractions of inputs at which a neuron is active; none where activations are 0 or 1.
    lams : sequence of float
        Weights of how common a concept is, in ``wpmi``; 1 by default.
    seed : int
        Of the inputs that some metrics draw by neuron.
    drawing : Drawing
        How many of these, and from how many of the strongest.
    block_size, workers : int, optional
        Neurons that are scored at once, and in how many threads.

    Returns
    -------
    xr.Dataset
        One variable per metric, (neuron, concept), with ``alpha`` and ``lam`` before them where the
        metric depends on these and they are given; attributes as of `score`. A metric of one's own
        that fails is NaN, and the attribute ``faulty_metrics`` says why, as a warning does; only
        if none is left, it is an error.
    """
    blocks = score_blocks(
        activations,
        labels,
        metrics,
        alphas,
        lams=lams,
        seed=seed,
        drawing=drawing,
        block_size=block_size,
        workers=workers,
    )
    scores = _join(blocks, take_neurons(activations)["neuron"])
    if told := faults_text(scores.attrs):
        warnings.warn(told.rstrip(), stacklevel=2)
    return scores


def _join(blocks: Iterator[xr.Dataset], neurons: xr.DataArray) -> xr.Dataset:
    """Put blocks together as they come, so that no value is ever held twice."""
    values: dict[Any, np.ndarray] = {}
    start = 0
    for block in blocks:
        for name, variable in block.data_vars.items():
            if start == 0:
                shape = (*variable.shape[:-2], neurons.size, variable.shape[-1])
                values[name] = np.empty(shape)
            values[name][..., start : start + block.sizes["neuron"], :] = variable.values
        start += block.sizes["neuron"]
    whole = block.isel(neuron=[]).drop_vars([*block.data_vars, "neuron"])
    whole = whole.assign_coords(neuron=neurons)
    for name, variable in block.data_vars.items():
        undefined = int(np.isnan(values[name]).sum())
        whole[name] = (variable.dims, values[name], {**variable.attrs, "undefined": undefined})
    return whole


def score_blocks(
    activations: AnyArray,
    labels: AnyArray,
    metrics: Sequence[str | Metric] | None = None,
    alphas: Sequence[float] = (),
    *,
    lams: Sequence[float] = (),
    seed: int = 0,
    drawing: Drawing = DRAWING,
    block_size: int | None = None,
    workers: int | None = None,
) -> Iterator[xr.Dataset]:
    """Yield what `score_matrix` returns, a block of neurons at a time.

    For what is too large at once; see there for parameters and errors.
    """
    tolerance = Tolerance(find_metrics(metrics))
    rows = tolerance.rows
    activations, labels = align(activations, labels)
    concept = labels["concept"]

    given = {"alpha": tuple(alphas), "lam": tuple(lams)}
    swept = {name: values for name, values in given.items() if values}
    coordinates = {
        name: xr.Variable(name, np.asarray(values, float), {"long_name": SWEPT[name], "units": "1"})
        for name, values in swept.items()
        if any(name in row.needs for row in rows)
    }

    def sweep(row: Metric, statistics: BlockStatistics) -> xr.Variable:
        """Return (alpha, lam, neuron, concept), with what the metric depends on and is given."""
        points = {name: values for name, values in swept.items() if name in row.needs}
        values = np.array(
            [
                row.evaluate(
                    statistics,
                    Parameters(seed=seed, drawing=drawing, **dict(zip(points, point, strict=True))),
                )
                for point in product(*points.values())
            ]
        ).reshape(*map(len, points.values()), *statistics.shape)
        return xr.Variable((*points, *PAIR), values, _attributes(row, values, DEFAULTS))

    def evaluate(neurons: slice, statistics: BlockStatistics) -> xr.Dataset:
        if any(row.family == "contingency" for row in rows):
            statistics.sweep(alphas)
        block = xr.Dataset({row.name: sweep(row, statistics) for row in rows}, coordinates)
        return block.assign_coords(neuron=activations["neuron"][neurons], concept=concept)

    columns = read_columns(activations), read_columns(labels, "labels")
    blocks = map_statistics(evaluate, *columns, block_size=block_size, workers=workers)
    return (block.assign_attrs(tolerance.attributes()) for block in blocks)


def bounds_of(rows: Sequence[Metric]) -> dict[str, tuple[str, list[float]]]:
    """Return variables ``lower`` and ``upper`` (metric,), NaN where the data bound a metric."""
    bounds = [row.bounds or (np.nan, np.nan) for row in rows]
    lower, upper = ([float(bound[side]) for bound in bounds] for side in (0, 1))
    return {"lower": ("metric", lower), "upper": ("metric", upper)}


def _attributes(row: Metric, values: np.ndarray, parameters: Parameters) -> dict[str, Any]:
    attributes: dict[str, Any] = {"long_name": row.title, "units": row.units}
    if row.bounds is not None:
        attributes["valid_range"] = [float(bound) for bound in row.bounds]
    if "alpha" in row.needs and parameters.alpha is not None:
        attributes["alpha"] = float(parameters.alpha)
    return {**attributes, "undefined": int(np.isnan(values).sum())}


SHARDED_FROM = 1 << 25
"""Pairs, over all metrics, above which the scores are written in parts."""


def score_explanations(
    config: ScoringConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset | Shards:
    """Score every pair, in parts where there are many."""
    opened = inputs["activations"].open(), inputs["labels"].open()
    activations, labels = pair_datasets(*opened, config.variable, config.split, config.neurons)
    seen = count_seen(inputs["activations"], activations["input"].values, config.seen_images)
    n_neurons, size = activations.sizes["neuron"], most_neurons(activations.sizes["input"])
    is_whole = n_neurons * labels.sizes["concept"] * len(config.metrics) <= SHARDED_FROM
    n_parts = 0 if is_whole else -(-n_neurons // size)
    writer = run.shards(n_parts)
    if is_whole:
        blocks = range(-(-n_neurons // size))
        parts = list(_score_parts(config, activations, labels, run, blocks))
        whole = xr.concat(parts, "neuron", combine_attrs="drop")
        return _tell(whole.merge(_summarise(config, labels, parts)).assign(seen), parts)
    with writer:
        for gap in _gaps(writer.indices(n_parts), writer.done):
            scored = _score_parts(config, activations, labels, run, gap)
            for index, part in zip(gap, scored, strict=True):
                writer.submit(part, index)
        writer.end_part()
    parts = list(map(registry.open_dataset, sorted(writer.folder.glob("part-*.nc"))))
    return writer.finish(_tell(_summarise(config, labels, parts).assign(seen), parts))


def _tell(dataset: xr.Dataset, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return a dataset that names the metrics that failed in parts, and write them to the console.

    Parts may be of a process that did not finish.
    """
    told = faults_of_parts(parts)
    sys.stdout.write(faults_text(told) + seen_line(dataset))
    return dataset.assign_attrs(told)


def _gaps(wanted: range, done: Collection[int]) -> Iterator[range]:
    """Yield the runs of consecutive indices that are wanted and not done."""
    missing = np.array([index for index in wanted if index not in done], int)
    for run in np.split(missing, np.flatnonzero(np.diff(missing) != 1) + 1):
        if len(run):
            yield range(int(run[0]), int(run[-1]) + 1)


def _score_parts(
    config: ScoringConfig,
    activations: xr.DataArray,
    labels: xr.DataArray,
    run: registry.Run,
    wanted: range,
) -> Iterator[xr.Dataset]:
    """Yield the scores of consecutive blocks of neurons, the same ones however often resumed."""
    size, total = most_neurons(activations.sizes["input"]), activations.sizes["neuron"]
    done = wanted.start * size
    alphas = () if config.alpha is None else (config.alpha,)
    arrays = activations.isel(neuron=slice(done, wanted.stop * size)), labels
    blocks = score_blocks(
        *arrays,
        metrics_by_rule(config.metrics, config.compat),
        alphas,
        lams=(config.lam,),
        seed=config.seed,
        drawing=config.drawing,
        block_size=size,
        workers=config.workers,
    )
    for block in blocks:
        done += block.sizes["neuron"]
        plain = block.squeeze([dim for dim in SWEPT if dim in block.dims], drop=True)
        score = plain.to_dataarray("metric").transpose("neuron", "metric", "concept")
        undefined = score.isnull().sum("concept").astype(np.int64)
        yield xr.Dataset({"score": score, "undefined": undefined}, attrs=block.attrs)
        run.progress(done, total, "neurons")


def _summarise(
    config: ScoringConfig, labels: xr.DataArray, parts: Sequence[xr.Dataset]
) -> xr.Dataset:
    """Return what is said of all neurons together."""
    failed = faulty_names(faults_of_parts(parts))
    whole = [part.isel(metric=[name not in failed for name in config.metrics]) for part in parts]
    undefined = [(part["undefined"].sum().item(), part["score"].size) for part in whole]
    n_undefined, n_pairs = map(sum, zip(*undefined, strict=True))
    return xr.Dataset(
        {
            "labelled_share": (labels >= LABEL_THRESHOLD).mean("input").compute(),
            "n_inputs": labels.sizes["input"],
            "undefined_share": n_undefined / n_pairs,
            **bounds_of(find_metrics(config.metrics)),
            **({"compat": config.compat} if config.compat else {}),
        },
        {"metric": list(config.metrics)},
    )
