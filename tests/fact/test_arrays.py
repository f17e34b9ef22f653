"""Public functions of fact take arrays of every library alike, and keep the names they bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy import sparse

import fact
from tests.fact import tiny

LAYER = "features.1"

MATRICES: dict[str, Callable[[np.ndarray, tuple[str, str]], Any]] = {
    "numpy": lambda array, dims: array,
    "torch": lambda array, dims: torch.from_numpy(array),
    "pandas": lambda array, dims: pd.DataFrame(array),
    "torch, sparse": lambda array, dims: torch.from_numpy(array).to_sparse(),
    "scipy sparse array": lambda array, dims: sparse.csr_array(array),
    "scipy sparse matrix": lambda array, dims: sparse.coo_matrix(array),
    "dask": lambda array, dims: dask.array.from_array(array, chunks=2),
    "xarray": lambda array, dims: xr.DataArray(array, dims=dims),
    "xarray, transposed": lambda array, dims: xr.DataArray(array.T, dims=dims[::-1]),
    "xarray of dask": lambda array, dims: xr.DataArray(array, dims=dims).chunk(2),
    "lists": lambda array, dims: array.tolist(),
}
IMAGE = ("image", "y", "x", "colour")
IMAGES: dict[str, Callable[[np.ndarray], Any]] = {
    "torch": lambda array: torch.from_numpy(np.moveaxis(array, -1, 1).copy()),
    "dask": lambda array: dask.array.from_array(array, chunks=2),
    "xarray": lambda array: xr.DataArray(array, dims=IMAGE),
    "xarray, transposed": lambda array: xr.DataArray(array, dims=IMAGE).transpose(*IMAGE[::-1]),
    "xarray of dask": lambda array: xr.DataArray(array, dims=IMAGE).chunk(2),
    "list of pictures": list,
}
VECTORS: dict[str, Callable[[np.ndarray], Any]] = {
    "torch": torch.from_numpy,
    "pandas": pd.Series,
    "dask": lambda array: dask.array.from_array(array, chunks=2),
    "xarray": lambda array: xr.DataArray(array, dims="image"),
    "list": lambda array: array.tolist(),
}


@pytest.fixture(scope="module")
def network() -> fact.Network:
    return tiny.convnet()


@pytest.fixture(scope="module")
def sae() -> fact.TopKSAE:
    return tiny.sae(channels=6)


@pytest.mark.parametrize("container", MATRICES)
def test_an_sae_is_made_of_any_container(container: str, sae: fact.TopKSAE) -> None:
    make = MATRICES[container]
    encoder, decoder = (weight.detach().numpy().copy() for weight in sae.parameters())
    made = fact.TopKSAE(
        make(encoder, ("concept", "channel")), make(decoder, ("channel", "concept")), sae.k
    )
    assert torch.equal(made.encoder.double(), sae.encoder)
    assert torch.equal(made.decoder.double(), sae.decoder)


@pytest.mark.parametrize("container", MATRICES)
def test_an_sae_encodes_and_decodes_any_container(container: str, sae: fact.TopKSAE) -> None:
    samples = np.random.default_rng(0).random((5, 6))
    expected = sae.encode(torch.from_numpy(samples))
    codes = sae.encode(MATRICES[container](samples, ("sample", "channel")))
    torch.testing.assert_close(codes, expected)
    decoded = sae.decode(MATRICES[container](expected.detach().numpy(), ("sample", "concept")))
    torch.testing.assert_close(decoded, sae.decode(expected))


def test_other_dimensions_of_weights_are_an_error(sae: fact.TopKSAE) -> None:
    weights = xr.DataArray(np.ones((9, 6)), dims=("neuron", "channel"))
    with pytest.raises(ValueError, match=r"'neuron', 'channel'.*expected.*'concept', 'channel'"):
        fact.TopKSAE(weights, weights.T, 3)


@pytest.mark.parametrize("container", MATRICES)
def test_training_takes_batches_of_any_container(container: str) -> None:
    batches = np.random.default_rng(1).standard_normal((4, 32, 6)).astype(np.float32)
    config = fact.TrainingConfig(steps=4)

    def losses(make: Callable[[np.ndarray, tuple[str, str]], Any]) -> np.ndarray:
        sae = fact.TopKSAE.initialise(9, 6, 3, torch.Generator().manual_seed(0))
        given = (make(batch, ("sample", "channel")) for batch in batches)
        return fact.train_topk_sae(given, sae, config).values

    np.testing.assert_allclose(losses(MATRICES[container]), losses(MATRICES["numpy"]), rtol=1e-6)


@pytest.mark.parametrize("container", IMAGES)
@pytest.mark.slow
def test_images_of_any_container_give_the_same_traces_and_maps(
    container: str, network: fact.Network, sae: fact.TopKSAE
) -> None:
    images = tiny.images(3)
    given = IMAGES[container](images)
    for compute in (
        lambda some: fact.trace_concepts(network, LAYER, sae, some, batch_size=2),
        lambda some: fact.concept_maps(network, LAYER, sae, some, [0, 4], batch_size=2),
        lambda some: fact.logit_maps(network, LAYER, sae, some, batch_size=2),
        lambda some: fact.neuron_activations(network, some, LAYER, batch_size=2),
        lambda some: fact.measure_interventions(network, LAYER, sae, some, n_draws=5),
    ):
        xr.testing.assert_identical(compute(given), compute(images))


@pytest.mark.parametrize("container", VECTORS)
def test_labels_and_concepts_of_any_container(
    container: str, network: fact.Network, sae: fact.TopKSAE
) -> None:
    images, make = tiny.images(3), VECTORS[container]
    labels, concepts = np.array([2, 0, 1]), np.array([4, 0])

    def traced(make: Callable[[np.ndarray], Any]) -> xr.Dataset:
        return fact.trace_concepts(network, LAYER, sae, images, "label", make(labels))

    def mapped(make: Callable[[np.ndarray], Any]) -> xr.Dataset:
        return fact.concept_maps(
            network, LAYER, sae, images, make(concepts), of="contribution", target="label",
            labels=make(labels),
        )  # fmt: skip

    xr.testing.assert_identical(traced(make), traced(np.asarray))
    xr.testing.assert_identical(mapped(make), mapped(np.asarray))


@pytest.mark.parametrize("container", ["torch", "dask", "xarray", "xarray, transposed"])
def test_a_picture_of_any_container_is_explained(
    container: str, network: fact.Network, sae: fact.TopKSAE
) -> None:
    source, picture = fact.ConceptSource(network, LAYER, sae), tiny.images(1)[0]
    given = {
        "torch": torch.from_numpy(picture),
        "dask": dask.array.from_array(picture, chunks=4),
        "xarray": xr.DataArray(picture, dims=IMAGE[1:]),
        "xarray, transposed": xr.DataArray(picture, dims=IMAGE[1:]).transpose("colour", "x", "y"),
    }[container]
    xr.testing.assert_identical(
        fact.explain_image(source, given), fact.explain_image(source, picture)
    )


@pytest.mark.parametrize("container", ["torch", "dask", "xarray", "xarray of dask"])
def test_weights_of_any_container_are_painted(container: str) -> None:
    draws = np.random.default_rng(0)
    weights, values = draws.standard_normal((2, 6, 8, 8)), draws.standard_normal((2, 8, 8))
    dims = ("concept", "colour", "y", "x")
    given: Any = {
        "torch": torch.from_numpy(weights),
        "dask": dask.array.from_array(weights, chunks=4),
        "xarray": xr.DataArray(weights, dims=dims),
        "xarray of dask": xr.DataArray(weights, dims=dims).chunk(4),
    }[container]
    picture = fact.colour_explanation(given, values)
    np.testing.assert_array_equal(np.asarray(picture), fact.colour_explanation(weights, values))
    assert isinstance(picture, xr.DataArray) == container.startswith("xarray")


def test_weights_of_another_type_serve_a_network_in_its_own(network: fact.Network) -> None:
    sae, images = tiny.sae(channels=6), tiny.images(3)
    encoder, decoder = (weight.detach().numpy().astype(np.float32) for weight in sae.parameters())
    single = fact.TopKSAE(encoder, decoder, sae.k)
    traced = fact.trace_concepts(network, LAYER, single, images)
    assert traced["presence"].dtype == np.float64
    assert single.encoder.dtype == torch.float32


# --- names ------------------------------------------------------------------------------------


def named(images: np.ndarray, names: list[str]) -> xr.DataArray:
    return xr.DataArray(images, {"image": names}, IMAGE)


@pytest.mark.parametrize("container", ["pandas", "xarray"])
def test_labels_join_images_by_name(
    container: str, network: fact.Network, sae: fact.TopKSAE
) -> None:
    images, names = tiny.images(3), ["test/a", "test/b", "test/c"]
    labels, shuffled = np.array([2, 0, 1]), [2, 0, 1]
    own = [names[row] for row in shuffled]
    given = {
        "pandas": pd.Series(labels[shuffled], index=own),
        "xarray": xr.DataArray(labels[shuffled], {"image": own}, ("image",)),
    }[container]
    traced = fact.trace_concepts(network, LAYER, sae, named(images, names), "label", given)
    assert traced["label"].values.tolist() == labels.tolist()
    assert traced["image"].values.tolist() == names


def test_a_label_that_is_missing_is_named(network: fact.Network, sae: fact.TopKSAE) -> None:
    images = named(tiny.images(2), ["test/a", "test/b"])
    labels = pd.Series([0, 1], index=["test/a", "test/c"])
    with pytest.raises(ValueError, match="no label of image 'test/b'"):
        fact.trace_concepts(network, LAYER, sae, images, "label", labels)


def test_two_labels_of_an_image_are_an_error(network: fact.Network, sae: fact.TopKSAE) -> None:
    images = named(tiny.images(2), ["test/a", "test/b"])
    labels = pd.Series([0, 1], index=["test/a", "test/a"])
    with pytest.raises(ValueError, match="several labels of image 'test/a'"):
        fact.trace_concepts(network, LAYER, sae, images, "label", labels)


def test_a_default_index_counts_as_no_name(network: fact.Network, sae: fact.TopKSAE) -> None:
    images = named(tiny.images(2), ["test/a", "test/b"])
    traced = fact.trace_concepts(network, LAYER, sae, images, "label", pd.Series([1, 2]))
    assert traced["label"].values.tolist() == [1, 2]


def test_lazy_images_are_computed_batch_by_batch(network: fact.Network) -> None:
    computed: list[int] = []

    def read(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        computed.append(len(block))
        return block

    lazy = dask.array.from_array(tiny.images(6), chunks=(2, -1, -1, -1)).map_blocks(
        read, meta=np.empty((0,) * 4, np.uint8)
    )
    fact.neuron_activations(network, lazy, LAYER, batch_size=2)
    assert computed == [2, 2, 2]
