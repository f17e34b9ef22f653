"""SAEs of other libraries, against what their own code encodes and decodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import fact
from fact.sae.formats import FORMATS

FOREIGN = Path(__file__).parent / "foreign"
ASKED = {  # what these files do not hold
    "overcomplete_topk": {"activation": "topk", "k": 3},
    "overcomplete_batchtopk": {"activation": "batch_topk", "k": 3, "threshold": 0.3},
}
CLASSES = {
    "topk": fact.TopKSAE,
    "jumprelu": fact.JumpReLUSAE,
    "jump": fact.JumpReLUSAE,
    "standard": fact.ReLUSAE,
    "relu": fact.ReLUSAE,
    "batchtopk": fact.BatchTopKSAE,
    "matryoshka": fact.BatchTopKSAE,
}
FOLDERS = sorted(folder.name for folder in FOREIGN.iterdir() if (folder / "expected.npz").exists())


def read(name: str, **given):
    return fact.read_sae(FOREIGN / name, **ASKED.get(name, {}), **given)


@pytest.mark.parametrize("name", FOLDERS)
def test_codes_and_reconstructions_are_those_of_the_library(name: str) -> None:
    sae = read(name)
    assert type(sae) is CLASSES[name.rsplit("_", 1)[1]]
    with np.load(FOREIGN / name / "expected.npz") as expected:
        z, x_hat = sae.encode(expected["x"]), sae(expected["x"])
        norm = 1.0
        if name == "sae_lens_topk":  # its codes are rescaled by the decoder's norms: folded
            np.testing.assert_allclose(sae.decoder.detach().norm(dim=0), norm, atol=1e-5)
        np.testing.assert_allclose(z.detach(), expected["z"], atol=2e-6)
        np.testing.assert_allclose(x_hat.detach(), expected["x_hat"], atol=5e-6)
        assert (expected["z"] > 0).sum() > 16


@pytest.mark.parametrize("name", FOLDERS)
def test_features_that_were_centred_and_divided_are_served_as_they_are(name: str) -> None:
    mean = np.linspace(-1, 2, 5, dtype=np.float32)
    served = read(name, scale=7.0, mean=mean)
    with np.load(FOREIGN / name / "expected.npz") as expected:
        raw = 7 * expected["x"] + mean
        np.testing.assert_allclose(served.encode(raw).detach(), 7 * expected["z"], atol=5e-5)
        wanted = 7 * expected["x_hat"] + mean
        np.testing.assert_allclose(served(raw).detach(), wanted, atol=5e-5)
    assert served.scale == 7.0


@pytest.mark.parametrize("name", FOLDERS)
def test_they_go_out_and_come_back(name: str, tmp_path: Path) -> None:
    sae, x = read(name), torch.randn(9, 5)
    fact.write_sae(sae, tmp_path / "sae.safetensors")
    fact.write_sae(sae.to_dataset(), tmp_path / "lens", "sae_lens")
    sae.to_dataset().to_netcdf(tmp_path / "sae.nc", engine="h5netcdf")
    for path in (tmp_path / "sae.safetensors", tmp_path / "lens", tmp_path / "sae.nc"):
        again = fact.read_sae(path)
        torch.testing.assert_close(again(x), sae(x))
        if path.name != "lens":  # which serves BatchTopK as JumpReLU, as the library does
            assert type(again) is type(sae)


def copy(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOREIGN / name, tmp_path / name))


def change(folder: Path, **changes) -> None:
    file = folder / "cfg.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_half_precision_is_served_in_single(tmp_path: Path) -> None:
    file = copy("sparsify_topk", tmp_path) / "sae.safetensors"
    halves = {name: t.bfloat16() for name, t in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(halves, file)
    sae = fact.read_sae(file.parent)
    assert sae.encoder.dtype == torch.float32
    assert torch.equal(sae.encoder.bfloat16(), halves["encoder.weight"])


def test_an_activation_function_is_asked_for_never_assumed(tmp_path: Path) -> None:
    folder = copy("dictionary_learning_topk", tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(fact.SAEFileError, match="activation function is not in the file"):
        fact.read_sae(folder)
    assert isinstance(fact.read_sae(folder, activation="topk"), fact.TopKSAE)
    with pytest.raises(fact.SAEFileError, match="the file says 'topk'"):
        read("sae_lens_topk", activation="relu")
    with pytest.raises(fact.SAEFileError, match="k 5; the file says 3"):
        read("sae_lens_topk", k=5)
    with pytest.raises(fact.SAEFileError, match="never estimated"):
        fact.read_sae(folder, activation="batch_topk")
    with pytest.raises(fact.SAEFileError, match="batch_topk without k"):
        fact.read_sae(FOREIGN / "overcomplete_batchtopk", activation="batch_topk")


def without(name: str, tmp_path: Path) -> Path:
    """Return a folder of a library without the configuration that was beside its weights."""
    folder = copy(name, tmp_path)
    (folder / "cfg.json").unlink()
    return folder


@pytest.mark.parametrize("format", ["auto", "sae_lens", "prisma"])
def test_without_its_configuration_nothing_is_taken_for_granted(format, tmp_path: Path) -> None:
    folder = without("sae_lens_standard", tmp_path)
    with pytest.raises(fact.SAEFileError, match="the activation function is not in the file"):
        fact.read_sae(folder, format)
    given = {"activation": "relu"}
    if format != "prisma":  # whose SAEs are all centred
        with pytest.raises(fact.SAEFileError, match="expected centred, true or false"):
            fact.read_sae(folder, format, **given)
    x = torch.randn(9, 5)
    again = fact.read_sae(folder, format, **given, centred=True)
    torch.testing.assert_close(again(x), read("sae_lens_standard")(x))
    assert not torch.allclose(
        again(x), fact.read_sae(folder, "sae_lens", **given, centred=False)(x)
    )


def test_what_else_a_configuration_says_is_asked_for_too(tmp_path: Path) -> None:
    folder = without("sae_lens_topk", tmp_path)
    given = {"activation": "topk", "centred": True}
    with pytest.raises(fact.SAEFileError, match="topk without k"):
        fact.read_sae(folder, **given | {"format": "prisma"})
    with pytest.raises(fact.SAEFileError, match="not of norm 1, and whether codes are multiplied"):
        fact.read_sae(folder, **given, k=3)
    with pytest.raises(fact.SAEFileError, match="centred False; the file says True"):
        read("sae_lens_topk", centred=False)
    folder = without("sae_lens_jumprelu", tmp_path)  # the threshold says what it is
    with pytest.raises(fact.SAEFileError, match="expected centred, true or false"):
        fact.read_sae(folder)
    x = torch.randn(9, 5)
    again = fact.read_sae(folder, centred=False)
    torch.testing.assert_close(again(x), read("sae_lens_jumprelu")(x))
    folder = without("sparsify_topk", tmp_path)
    with pytest.raises(fact.SAEFileError, match="the activation function is not in the file"):
        fact.read_sae(folder, k=3)
    again = fact.read_sae(folder, activation="topk", k=3)
    torch.testing.assert_close(again(x), read("sparsify_topk")(x))


LINEAR = {"encoder.weight": torch.ones(4, 3), "decoder.weight": torch.ones(3, 4)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (LINEAR, "the activation function is not in the file"),
        (LINEAR | {"encoder.bias": torch.ones(4)}, "the activation function is not in the file"),
        (LINEAR | {"encoder.bias": torch.ones(4), "k": 2}, "has a bias: encoder.bias; FaCT's SAEs"),
        (LINEAR | {"k": torch.tensor(2.5)}, "k is 2.5; expected a whole number"),
        (LINEAR | {"k": torch.tensor([2, 3])}, r"k is \[2, 3\]; expected a whole number"),
        (
            LINEAR | {"k": 2, "encoder.weight": torch.ones(4, 3).to_sparse()},
            r"encoder.weight \(4, 3\) is sparse; expected plain tensors",
        ),
        (LINEAR | {"k": 2, "decoder.weight": torch.zeros(3, 4)}, "decoder is 0 everywhere"),
        (LINEAR | {"k": 2, "encoder.weight": torch.zeros(4, 3)}, "encoder is 0 everywhere"),
    ],
)
def test_states_that_say_too_little_or_nothing_are_refused(state, message, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(fact.SAEFileError, match=message):
        fact.read_sae(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_sae": 7}, "weights are of 12 concepts; the configuration beside them says d_sae 7"),
        ({"d_in": 7}, "weights are of 5 channels; the configuration beside them says d_in 7"),
        ({"k": 3.5}, "k is 3.5; expected a whole number"),
        ({"activation_fn_kwargs": {"k": 4}}, "k is 3 and 4: the weights and the configuration"),
    ],
)
def test_a_configuration_of_another_sae_is_refused(changes, message, tmp_path: Path) -> None:
    folder = copy("sae_lens_topk", tmp_path)
    change(folder, **changes)
    with pytest.raises(fact.SAEFileError, match=message):
        fact.read_sae(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalize_activations": "layer_norm"}, "'layer_norm' divides each sample"),
        ({"normalize_activations": "expected_average_only_in"}, "expected scale"),
        ({"architecture": "gated"}, "architecture 'gated' is not served"),
    ],
)
def test_what_cannot_be_folded_is_named(changes, message: str, tmp_path: Path) -> None:
    folder = copy("sae_lens_standard", tmp_path)
    change(folder, **changes)
    with pytest.raises(fact.SAEFileError, match=message):
        fact.read_sae(folder)


def test_a_scale_of_features_that_was_not_folded_is_taken(tmp_path: Path) -> None:
    folder = copy("sae_lens_standard", tmp_path)
    change(folder, normalize_activations="expected_average_only_in")
    x = torch.randn(4, 5)
    torch.testing.assert_close(
        fact.read_sae(folder, scale=3.0)(x), read("sae_lens_standard", scale=3.0)(x)
    )


def test_of_what_a_training_of_fact_leaves_the_best_is_named(tmp_path: Path) -> None:
    state = {"encoder.weight": torch.eye(3), "decoder.weight": torch.eye(3), "k": torch.tensor(2)}
    for name in ("best.pt", "last.pt", "final.pt"):
        torch.save(state | ({} if name == "final.pt" else {"log": {"l0": 2.0}}), tmp_path / name)
    (tmp_path / "config.json").write_text('{"trainer": {"k": 2, "dict_class": "AutoEncoderTopK"}}')
    with pytest.raises(fact.SAEFileError) as refused:
        fact.read_sae(tmp_path)
    best = tmp_path / "best.pt"
    assert f'best.pt, final.pt, last.pt; name one of them, as path = "{best}"' in str(refused.value)
    for name in ("best.pt", "final.pt"):
        assert fact.read_sae(tmp_path / name).k == 2


class Code:
    """What unpickling it would run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_files_that_are_no_saes(tmp_path: Path) -> None:
    torch.save({"cfg": Code(tmp_path / "ran"), "W_enc": torch.ones(2, 3)}, tmp_path / "a.pt")
    with pytest.raises(fact.SAEFileError, match=r"a\.pt: it holds more than tensors and"):
        fact.read_sae(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    cut = (FOREIGN / "sparsify_topk/sae.safetensors").read_bytes()[:-40]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    with pytest.raises(fact.SAEFileError, match=r"cut\.safetensors: cut, damaged"):
        fact.read_sae(tmp_path / "cut.safetensors")
    (tmp_path / "page.safetensors").write_text("<html>404</html>")
    with pytest.raises(fact.SAEFileError, match=r"no safetensors: it begins with .*: a web page"):
        fact.read_sae(tmp_path / "page.safetensors")
    (tmp_path / "page.safetensors").unlink()
    (tmp_path / "cut.pt").write_bytes((FOREIGN / "overcomplete_topk/sae.pt").read_bytes()[:900])
    with pytest.raises(fact.SAEFileError, match=r"cut\.pt: cut"):
        fact.read_sae(tmp_path / "cut.pt")
    safetensors.torch.save_file({"fc": torch.ones(2, 3)}, tmp_path / "fc.safetensors")
    with pytest.raises(fact.SAEFileError, match=r"found fc \(2, 3\); expected those of plain"):
        fact.read_sae(tmp_path / "fc.safetensors")
    with pytest.raises(fact.SAEFileError, match="no such file"):
        fact.read_sae(tmp_path / "none.pt")
    with pytest.raises(fact.SAEFileError, match=r"4 files of weights in the folder: .*; name one"):
        fact.read_sae(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(fact.SAEFileError, match="no file of weights in the folder"):
        fact.read_sae(tmp_path / "none")
    with pytest.raises(fact.SAEFileError, match="'sae_lense'; did you mean 'sae_lens'"):
        fact.read_sae(FOREIGN / "sparsify_topk", "sae_lense")
    weights = {"encoder": torch.ones(4, 3), "decoder": torch.full((3, 4), torch.nan)}
    safetensors.torch.save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(fact.SAEFileError, match="12 numbers of decoder are not finite"):
        fact.read_sae(tmp_path / "nan.safetensors", activation="relu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": torch.full((3,), torch.nan)}, "3 numbers of mean are not finite"),
        ({"encoder": torch.ones(4, 3).int()}, "encoder is of torch.int32; expected floats"),
        ({"decoder_bias": torch.zeros(4)}, r"decoder_bias \(4,\); expected \(3,\)"),
    ],
)
def test_what_would_be_taken_without_a_word_is_refused(change, message, tmp_path: Path) -> None:
    weights = {"encoder": torch.ones(4, 3), "decoder": torch.ones(3, 4), **change}
    mean = weights.pop("mean", None)
    safetensors.torch.save_file(weights, tmp_path / "own.safetensors")
    with pytest.raises(fact.SAEFileError, match=message):
        fact.read_sae(tmp_path / "own.safetensors", activation="relu", mean=mean)


PRISMA = {  # as vit_prisma.sae writes it, whose samples lose the decoder's bias first
    "model_name": "open-clip:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    "architecture": "standard",
    "activation_fn_str": "relu",
    "activation_fn_kwargs": {},
    "normalize_activations": "none",
    "d_in": 6,
    "d_sae": 11,
    "dtype": "torch.float32",
    "is_transcoder": False,
}


@pytest.mark.parametrize("format", ["auto", "prisma"])
@pytest.mark.parametrize("k", [None, 3])
def test_prismas_files_give_its_codes(format: str, k: int | None, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (6, 11), "W_dec": (11, 6), "b_enc": (11,), "b_dec": (6,)}
    state = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    config = PRISMA if k is None else PRISMA | {"activation_fn_str": "topk"}
    config = config | {"activation_fn_kwargs": {} if k is None else {"k": k}}
    torch.save(state, tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = torch.randn((20, 6), generator=draw)
    codes = ((x - state["b_dec"]) @ state["W_enc"] + state["b_enc"]).relu()
    if k is not None:
        best = codes.topk(k)
        codes = torch.zeros_like(codes).scatter(1, best.indices, best.values)
    sae = fact.read_sae(tmp_path, format)
    assert torch.allclose(sae.encode(x), codes, atol=1e-5)
    assert torch.allclose(sae(x), codes @ state["W_dec"] + state["b_dec"], atol=1e-5)
    for changes, message in (
        ({"is_transcoder": True}, "reconstructs another layer"),
        ({"architecture": "gated"}, "architecture 'gated'; expected 'standard'"),
        ({"normalize_activations": "layer_norm"}, "'layer_norm' divides each sample"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(fact.SAEFileError, match=message):
            fact.read_sae(tmp_path, "prisma")
    (tmp_path / "config.json").write_text(json.dumps(config | {"is_transcoder": True}))
    with pytest.raises(fact.SAEFileError, match="reconstructs another layer"):
        fact.read_sae(tmp_path)


def test_named_matrices(tmp_path: Path) -> None:
    weights = {"enc": torch.randn(4, 3), "dec": torch.randn(3, 4), "b": torch.ones(3)}
    safetensors.torch.save_file(weights, tmp_path / "own.safetensors")
    names = {"encoder": "enc", "decoder": "dec", "decoder_bias": "b"}
    given = {"names": names, "activation": "topk", "k": 2}
    with pytest.raises(fact.SAEFileError, match="expected centred, true or false"):
        fact.read_sae(tmp_path / "own.safetensors", **given)
    sae = fact.read_sae(tmp_path / "own.safetensors", **given, centred=False)
    assert sae.encoder_bias is None
    assert sae.decoder_bias is not None
    assert torch.equal(sae.decoder_bias, weights["b"])
    x = torch.randn(5, 3)
    moved = fact.read_sae(tmp_path / "own.safetensors", **given, centred=True)
    expected = torch.topk((x - weights["b"]) @ weights["enc"].T, 2)
    codes = torch.zeros(5, 4).scatter(1, expected.indices, expected.values.relu())
    assert torch.allclose(moved(x), codes @ weights["dec"].T + weights["b"], atol=1e-6)
    fact.write_sae(moved, tmp_path / "written.safetensors")
    again = fact.read_sae(tmp_path / "written.safetensors")  # one of ours says all
    assert torch.equal(again(x), moved(x))
    two = {"encoder.weight": weights["enc"], "decoder.weight": weights["dec"]}
    two |= {"encoder.bias": torch.ones(4), "decoder.bias": weights["b"]}
    torch.save(two, tmp_path / "two.pt")  # two linear layers, which say nothing
    with pytest.raises(fact.SAEFileError, match="expected centred, true or false"):
        fact.read_sae(tmp_path / "two.pt", activation="relu")
    with pytest.raises(fact.SAEFileError, match="lacks bb; found"):
        fact.read_sae(
            tmp_path / "own.safetensors", names={**names, "encoder_bias": "bb"}, activation="relu"
        )
    with pytest.raises(fact.SAEFileError, match="'encodr'; did you mean 'encoder'"):
        fact.read_sae(tmp_path / "own.safetensors", names={"encodr": "enc"}, activation="relu")


def test_other_kinds_are_refused_with_the_reason(tmp_path: Path) -> None:
    for changes, message in (
        ({"W_skip": torch.ones(5, 5)}, "a transcoder"),
        ({"encoder.weight": torch.ones(12, 4)}, r"encoder \(12, 4\) and decoder \(5, 12\)"),
    ):
        folder = copy("sparsify_topk", tmp_path)
        state = safetensors.torch.load_file(folder / "sae.safetensors") | changes
        safetensors.torch.save_file(state, folder / "sae.safetensors")
        with pytest.raises(fact.SAEFileError, match=message):
            fact.read_sae(folder)
        shutil.rmtree(folder)
    gated = {n: torch.ones(4, 3) for n in ("encoder.weight", "decoder.weight", "r_mag")}
    torch.save(gated, tmp_path / "gated.pt")
    with pytest.raises(fact.SAEFileError, match="a gated SAE"):
        fact.read_sae(tmp_path / "gated.pt")
    assert len(FORMATS) == 7


FILES = ("ae.pt", "sae.pt", "sae.safetensors", "sae_weights.safetensors")


@pytest.mark.parametrize("name", FOLDERS)
def test_no_tensor_is_passed_over_in_silence(name: str, tmp_path: Path) -> None:
    folder = copy(name, tmp_path)
    [file] = [folder / file for file in FILES if (folder / file).exists()]
    is_torch = file.suffix == ".pt"
    state = torch.load(file) if is_torch else safetensors.torch.load_file(file)
    state |= {"gate": torch.ones(4), "steps.num_batches_tracked": torch.tensor(9)}
    (torch.save if is_torch else safetensors.torch.save_file)(state, file)
    with pytest.raises(fact.SAEFileError, match=r"has no use for: gate \(4,\)"):
        fact.read_sae(folder, **ASKED.get(name, {}))
    again = fact.read_sae(folder, **ASKED.get(name, {}), ignore=["gate"])
    assert torch.equal(again.encoder, read(name).encoder)
    with pytest.raises(fact.SAEFileError, match="'gates'; did you mean 'gate'"):
        fact.read_sae(folder, **ASKED.get(name, {}), ignore=["gates"])


def test_a_tensor_beside_a_state_dict_is_told(tmp_path: Path) -> None:
    weights = {"encoder": torch.ones(4, 3), "decoder": torch.ones(3, 4)}
    optimizer = {"exp_avg": torch.ones(4, 3)}
    inside = {"state_dict": weights, "optimizer": optimizer, "mean": torch.ones(3)}
    torch.save(inside, tmp_path / "sae.pt")
    with pytest.raises(fact.SAEFileError, match=r"no use for: mean \(3,\)"):
        fact.read_sae(tmp_path / "sae.pt", activation="relu")


@pytest.mark.parametrize("kind", ["topk", "relu"])
def test_a_threshold_that_nothing_uses_is_refused(kind: str, tmp_path: Path) -> None:
    weights = {"encoder": torch.ones(4, 3), "decoder": torch.ones(3, 4)}
    file = tmp_path / "sae.safetensors"
    safetensors.torch.save_file(weights | {"threshold": torch.full((4,), 0.2)}, file)
    with pytest.raises(fact.SAEFileError, match=f"{kind} has no threshold"):
        fact.read_sae(file, activation=kind, k=2)
    assert isinstance(fact.read_sae(file, activation="jumprelu"), fact.JumpReLUSAE)


def test_overcompletes_quantised_saes_are_refused_and_tied_ones_read(tmp_path: Path) -> None:
    state = torch.load(FOREIGN / "overcomplete_topk/sae.pt")
    torch.save(state | {"Q": torch.linspace(0, 1, 4)}, tmp_path / "sae.pt")
    with pytest.raises(fact.SAEFileError, match="a quantised SAE: its codes are learnt levels"):
        fact.read_sae(tmp_path / "sae.pt", activation="relu")
    atoms, gain = torch.randn(12, 5), torch.tensor(0.5)
    parts = {"_weights": atoms, "multiplier": gain}
    tied = {f"{n}.{p}": t for n in ("dictionary", "encoder.tied_to") for p, t in parts.items()}
    torch.save(tied | {"encoder.bias": torch.ones(12)}, tmp_path / "sae.pt")
    sae, x = fact.read_sae(tmp_path / "sae.pt", activation="topk", k=3), torch.randn(9, 5)
    codes = torch.relu(x @ (atoms * gain.exp()).T + 1)
    kept = torch.where(codes >= codes.topk(3).values[:, -1:], codes, 0)
    torch.testing.assert_close(sae.encode(x), kept)
    torch.testing.assert_close(sae(x), kept @ atoms * gain.exp())


def test_thresholds_of_older_saelens_are_read(tmp_path: Path) -> None:
    folder = copy("sae_lens_jumprelu", tmp_path)
    file = folder / "sae_weights.safetensors"
    state = safetensors.torch.load_file(file)
    state["log_threshold"] = state.pop("threshold").log()
    safetensors.torch.save_file(state, file)
    now, before = read("sae_lens_jumprelu"), fact.read_sae(folder)
    torch.testing.assert_close(before.threshold, now.threshold)


def test_a_topk_sae_read_as_relu_would_be_another() -> None:
    sae = read("sae_lens_topk")
    with np.load(FOREIGN / "sae_lens_topk/expected.npz") as expected:
        relu = fact.ReLUSAE(sae.encoder, sae.decoder, encoder_bias=sae.encoder_bias)
        assert (relu.encode(expected["x"]) > 0).sum() > 1.3 * (sae.encode(expected["x"]) > 0).sum()


def test_a_checkpoint_of_fact_is_found_by_its_names(tmp_path: Path) -> None:
    encoder, decoder = torch.randn(9, 4), torch.randn(4, 9)
    state = {"encoder.weight": encoder, "decoder.weight": decoder, "k": 3, "threshold": 0.0}
    torch.save(state, tmp_path / "sae.pt")
    sae = fact.read_sae(tmp_path / "sae.pt")
    samples = torch.randn(20, 4)
    before = torch.relu(samples @ encoder.T)
    least = before.sort(dim=1, descending=True).values[:, 2:3]
    expected = torch.where(before >= least, before, torch.zeros(()))
    torch.testing.assert_close(sae.encode(samples), expected)
    torch.testing.assert_close(sae(samples), expected @ decoder.T)
