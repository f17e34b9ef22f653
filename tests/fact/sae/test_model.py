"""The bias-free TopK SAE: codes, reconstruction, and how its weights are kept."""

import numpy as np
import pytest
import torch
import xarray as xr

from fact import schemas
from fact.sae.model import TopKSAE, released_checkpoint_url, weighted_rows

N_CONCEPTS, N_CHANNELS, K = 10, 4, 3


def make_sae(k=K, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    encoder = torch.randn(N_CONCEPTS, N_CHANNELS, generator=generator, dtype=dtype)
    decoder = torch.randn(N_CHANNELS, N_CONCEPTS, generator=generator, dtype=dtype)
    return TopKSAE(encoder, decoder, k, scale=2.5)


def make_x(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, N_CHANNELS, generator=generator, dtype=dtype)


def encode_by_hand(sae, x):
    z = np.zeros(sae.n_concepts)
    products = [float(weights @ x) for weights in sae.encoder.detach()]
    for concept in sorted(range(len(products)), key=products.__getitem__)[-sae.k :]:
        z[concept] = max(products[concept], 0)
    return z


def save(path, **changes):
    sae = make_sae()
    state = {
        "encoder.weight": sae.encoder.detach(),
        "decoder.weight": sae.decoder.detach(),
        "k": torch.tensor(K, dtype=torch.int),
        "threshold": torch.tensor(-1.0),
        "log": {"l0": 2.9, "val_acc": torch.tensor(0.7)},
    }
    state.update(changes)
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    return sae


@pytest.mark.parametrize("k", [1, K, N_CONCEPTS])
def test_codes_are_the_k_largest_rectified_products(k):
    sae, x = make_sae(k, dtype=torch.float64), make_x(20, dtype=torch.float64)
    expected = np.stack([encode_by_hand(sae, sample) for sample in x])
    np.testing.assert_allclose(sae.encode(x).detach(), expected, atol=1e-12)
    reconstructed = expected @ sae.decoder.detach().numpy().T
    np.testing.assert_allclose(sae(x).detach(), reconstructed, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 5), (0,)])
def test_sparse_and_dense_codes_agree_for_samples_of_any_shape(shape):
    sae, x = make_sae(), make_x(*shape)
    values, indices = sae.encode_sparse(x)
    assert values.shape == indices.shape == (*shape, K)
    assert sae.encode(x).shape == (*shape, N_CONCEPTS)
    torch.testing.assert_close(sae.encode(x).gather(-1, indices), values)
    torch.testing.assert_close(sae.decode_sparse(values, indices), sae(x))
    assert sae(x).shape == x.shape


def test_it_is_positively_homogeneous_so_without_any_bias():
    sae, x = make_sae(), make_x(20)
    torch.testing.assert_close(sae(4 * x), 4 * sae(x))
    assert torch.equal(sae(torch.zeros(N_CHANNELS)), torch.zeros(N_CHANNELS))
    assert {name for name, _ in sae.named_parameters()} == {"encoder", "decoder"}


def test_gradients_flow_through_the_concepts_that_are_kept_alone():
    sae, x = make_sae(dtype=torch.float64), make_x(6, dtype=torch.float64).requires_grad_()
    z = sae.encode(x)
    z.retain_grad()
    sae.decode(z).sum().backward()
    kept = z > 0
    expected = kept.double() * sae.decoder.sum(0) @ sae.encoder
    torch.testing.assert_close(x.grad, expected.detach())
    torch.testing.assert_close(z.grad, sae.decoder.detach().sum(0).expand(6, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_in_any_memory_order_are_kept_concept_by_concept(dtype):
    sae = make_sae(dtype=dtype)
    other = TopKSAE(sae.encoder.T.contiguous().T, sae.decoder.contiguous(), K)
    for same in (sae, other, other.to(torch.float64)):
        assert same.encoder.is_contiguous()
        assert same.decoder.T.is_contiguous()
    assert torch.equal(other.decoder.to(dtype), sae.decoder)


def test_its_weights_are_its_own():
    encoder = torch.eye(3)
    sae = TopKSAE(encoder, encoder, 1)
    encoder.zero_()
    assert torch.equal(sae.encoder, torch.eye(3))


def test_initial_weights_are_a_uniform_matrix_with_unit_columns_and_its_transpose():
    sae = TopKSAE.initialise(4000, 3, 5, torch.Generator().manual_seed(0), scale=3.0)
    torch.testing.assert_close(sae.decoder.norm(dim=0), torch.ones(4000))
    assert torch.equal(sae.encoder, sae.decoder.T)
    assert (sae.k, sae.scale) == (5, 3.0)
    assert sae.decoder.mean().abs() < 0.02
    # Uniform in a cube, so denser along its diagonals than a sphere's 1/3 for one axis.
    fourth = sae.decoder.pow(4).sum(0).mean().item()
    cube = torch.rand(3, 10**5, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert fourth == pytest.approx((cube / cube.norm(dim=0)).pow(4).sum(0).mean().item(), rel=0.02)


def test_initial_weights_depend_on_the_generator_alone():
    one, same, other = (
        TopKSAE.initialise(8, 4, 2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one.decoder, same.decoder)
    assert not torch.equal(one.decoder, other.decoder)


@pytest.mark.parametrize(
    ("encoder", "decoder", "k", "scale", "message"),
    [
        ((4, 3), (4, 3), 1, 1.0, r"encoder \(4, 3\) and decoder \(4, 3\); expected \(concept"),
        ((4,), (4,), 1, 1.0, "expected"),
        ((4, 3), (3, 4), 0, 1.0, "k is 0; expected 1 to 4"),
        ((4, 3), (3, 4), 5, 1.0, "k is 5; expected 1 to 4"),
        ((4, 3), (3, 4, 1), 5, 0.0, "expected.*; scale is 0.0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(encoder, decoder, k, scale, message):
    with pytest.raises(ValueError, match=message):
        TopKSAE(torch.zeros(encoder), torch.zeros(decoder), k, scale)


def test_weights_of_two_types_are_refused():
    with pytest.raises(ValueError, match="expected one floating type"):
        TopKSAE(torch.zeros(4, 3), torch.zeros(3, 4, dtype=torch.float64), 1)
    with pytest.raises(ValueError, match="expected one floating type"):
        TopKSAE(torch.zeros(4, 3, dtype=int), torch.zeros(3, 4, dtype=int), 1)


def test_a_dataset_brings_it_back(tmp_path):
    sae = make_sae()
    sae.to_dataset().to_netcdf(tmp_path / "sae.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "sae.nc", engine="h5netcdf") as dataset:
        for given in (dataset, dataset.transpose()):
            again = TopKSAE.from_dataset(given)
            assert torch.equal(again.encoder, sae.encoder)
            assert torch.equal(again.decoder, sae.decoder)
            assert (again.k, again.scale) == (K, 2.5)


def test_its_dataset_has_the_dimensions_of_the_schema():
    dataset = make_sae().to_dataset()
    for name, variable in dataset.variables.items():
        declared = {**schemas.SAE.variables, **schemas.SAE.coords}[name]
        assert variable.dims == declared.dims


def test_k_and_scale_may_be_attributes():
    sae = make_sae()
    dataset = sae.to_dataset().drop_vars(["k", "scale"]).assign_attrs(k=K, scale=2.5)
    again = TopKSAE.from_dataset(dataset)
    assert (again.k, again.scale) == (K, 2.5)
    assert TopKSAE.from_dataset(dataset.assign_attrs(scale=1.0)).scale == 1.0


def test_a_dataset_that_lacks_something_is_refused():
    with pytest.raises(ValueError, match="lacks decoder, k"):
        TopKSAE.from_dataset(make_sae().to_dataset().drop_vars(["decoder", "k"]))


@pytest.mark.parametrize("changes", [{}, {"log": None, "threshold": None}, {"k": K}])
def test_a_released_checkpoint_is_read(tmp_path, changes):
    sae = save(tmp_path / "sae.pt", **changes)
    again = TopKSAE.from_checkpoint(tmp_path / "sae.pt")
    x = make_x(5)
    assert torch.equal(again(x), sae(x))
    assert again.k == K


@pytest.mark.parametrize("bias", ["encoder.bias", "decoder.bias", "b_dec", "bias"])
def test_a_checkpoint_with_a_bias_is_refused_even_of_zeros(tmp_path, bias):
    save(tmp_path / "sae.pt", **{bias: torch.zeros(N_CONCEPTS)})
    with pytest.raises(ValueError, match=f"has a bias: {bias}"):
        TopKSAE.from_checkpoint(tmp_path / "sae.pt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    save(tmp_path / "sae.pt", **{"k": None, "fc.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"missing \['k'\], unknown \['fc.weight'\]"):
        TopKSAE.from_checkpoint(tmp_path / "sae.pt")
    torch.save(torch.zeros(3), tmp_path / "sae.pt")
    with pytest.raises(ValueError, match="a Tensor; expected a state dict"):
        TopKSAE.from_checkpoint(tmp_path / "sae.pt")
    (tmp_path / "sae.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="not a file of weights alone"):
        TopKSAE.from_checkpoint(tmp_path / "sae.pt")
    with pytest.raises(FileNotFoundError):
        TopKSAE.from_checkpoint(tmp_path / "none.pt")


class Code:
    """What unpickling it would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    save(tmp_path / "sae.pt", log=Code(tmp_path / "ran"))
    with pytest.raises(ValueError, match="not a file of weights alone"):
        TopKSAE.from_checkpoint(tmp_path / "sae.pt")
    assert not (tmp_path / "ran").exists()


def test_the_address_of_a_released_checkpoint():
    url = released_checkpoint_url("vitc_s_patch1_14", "0.transformer.encoder_9", 16384, 32, 1e-4)
    assert url == (
        "https://github.com/m-parchami/FaCT/releases/download/v0.1/"
        "v0.1-vitc_s_patch1_14-0.transformer.encoder_9-BiasFreeTopK-K16384-S32-LR0.0001.pt"
    )


def test_weighted_rows_is_a_product_with_a_sparse_matrix():
    rows = make_x(6)
    sparse = torch.zeros(3, 6)
    entries = [[(1, 2.0), (5, -1.0)], [], [(0, 0.5)]]
    for i, row in enumerate(entries):
        for j, weight in row:
            sparse[i, j] = weight
    indices, weights = torch.tensor([1, 5, 0]), torch.tensor([2.0, -1.0, 0.5])
    found = weighted_rows(rows, indices, weights, torch.tensor([0, 2, 2]))
    torch.testing.assert_close(found, sparse @ rows)
