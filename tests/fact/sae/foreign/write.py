"""Writes the SAEs of this folder by the libraries' own code, with what it encodes and decodes.

Run in an environment of its own, never in that of the tests (they need none of these)::

    pip install sae-lens==6.54.12 dictionary-learning==0.1.0 overcomplete==0.3.0 eai-sparsify==1.3.3
    python tests/fact/sae/foreign/write.py

Each folder holds what the library saves, and ``expected.npz``: samples ``x``, codes ``z``,
reconstructions ``x_hat``. The ``.npz`` beside them hold one step of a training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
CHANNELS, CONCEPTS, K = 5, 12, 3


def samples() -> torch.Tensor:
    return torch.randn(16, CHANNELS, generator=torch.Generator().manual_seed(1))


def fill(module: nn.Module) -> None:
    """Draw every parameter, biases too; thresholds are small and positive."""
    draw = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        values = 0.5 * torch.randn(parameter.shape, generator=draw)
        parameter.data = values.abs() * 0.3 if name == "threshold" else values


def keep(name: str, z: torch.Tensor, x_hat: torch.Tensor) -> Path:
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    arrays = {"x": samples(), "z": z, "x_hat": x_hat}
    plain: dict[str, Any] = {n: t.detach().numpy().astype(np.float32) for n, t in arrays.items()}
    np.savez(folder / "expected.npz", **plain)
    return folder


def write_sae_lens() -> None:
    from sae_lens import SAE

    base = {"d_in": CHANNELS, "d_sae": CONCEPTS, "normalize_activations": "none"}
    kinds = {
        "sae_lens_standard": {"architecture": "standard", "apply_b_dec_to_input": True},
        "sae_lens_jumprelu": {"architecture": "jumprelu", "apply_b_dec_to_input": False},
        "sae_lens_topk": {
            "architecture": "topk",
            "k": K,
            "rescale_acts_by_decoder_norm": True,
            "apply_b_dec_to_input": True,
        },
    }
    for name, config in kinds.items():
        sae = SAE.from_dict({**base, **config})
        fill(sae)
        z = sae.encode(samples())
        sae.save_model(keep(name, z, sae.decode(z)))


def write_dictionary_learning() -> None:
    from dictionary_learning.dictionary import AutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    made = {
        "dictionary_learning_relu": AutoEncoder(CHANNELS, CONCEPTS),
        "dictionary_learning_jumprelu": JumpReluAutoEncoder(CHANNELS, CONCEPTS, device="cpu"),
        "dictionary_learning_topk": AutoEncoderTopK(CHANNELS, CONCEPTS, K),
        "dictionary_learning_batchtopk": BatchTopKSAE(CHANNELS, CONCEPTS, K),
        "dictionary_learning_matryoshka": MatryoshkaBatchTopKSAE(CHANNELS, CONCEPTS, K, [4, 8]),
    }
    for name, sae in made.items():
        fill(sae)
        if "batch" in name or "matryoshka" in name:
            sae.threshold.fill_(0.4)
        z = sae.encode(samples())
        folder = keep(name, z, sae.decode(z))
        torch.save(sae.state_dict(), folder / "ae.pt")
        trainer = {"dict_class": type(sae).__name__, "dict_size": CONCEPTS}
        (folder / "config.json").write_text(json.dumps({"trainer": trainer}))


def write_overcomplete() -> None:
    from overcomplete.sae.batchtopk_sae import BatchTopKSAE
    from overcomplete.sae.jump_sae import JumpSAE
    from overcomplete.sae.topk_sae import TopKSAE

    made = {
        "overcomplete_topk": TopKSAE(CHANNELS, CONCEPTS, top_k=K),
        "overcomplete_jump": JumpSAE(CHANNELS, CONCEPTS),
        "overcomplete_batchtopk": BatchTopKSAE(CHANNELS, CONCEPTS, top_k=K),
    }
    for name, sae in made.items():
        fill(sae)
        for _ in range(3):  # running statistics of the encoder's norm, as training leaves them
            sae(samples())
        sae.eval()
        if name == "overcomplete_batchtopk":
            sae.running_threshold = torch.tensor(0.3)
        _, z = sae.encode(samples())
        torch.save(sae.state_dict(), keep(name, z, sae.decode(z)) / "sae.pt")


def write_sparsify() -> None:
    from sparsify import SparseCoder, SparseCoderConfig

    sae = SparseCoder(CHANNELS, SparseCoderConfig(num_latents=CONCEPTS, k=K))
    fill(sae)
    values, indices, _ = sae.encode(samples())
    z = torch.zeros(len(values), CONCEPTS).scatter(1, indices, values)
    # In plain torch: the library's decoder is a kernel of Triton where there is one.
    sae.save_to_disk(keep("sparsify_topk", z, z @ sae.W_dec + sae.b_dec))


def first_weights(concepts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Encoder (concept, channel), decoder (channel, concept) of unit columns."""
    draw = torch.Generator().manual_seed(3)
    encoder = torch.randn(concepts, CHANNELS, generator=draw)
    decoder = torch.randn(CHANNELS, concepts, generator=draw)
    return encoder, decoder / decoder.norm(dim=0)


def keep_arrays(name: str, **tensors: torch.Tensor) -> None:
    """Write one ``.npz`` beside the folders: what trainings of a library compute."""
    np.savez(HERE / f"{name}.npz", **{n: t.detach().numpy() for n, t in tensors.items()})


def write_dictionary_learning_steps() -> None:
    """Losses, gradients and thresholds of trainers without biases; some concepts are dead."""
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer

    base = {"steps": 9, "activation_dim": CHANNELS, "dict_size": CONCEPTS, "k": K, "layer": 0}
    base |= {"lm_name": "", "lr": 1e-3, "seed": 0, "device": "cpu", "threshold_start_step": -1}
    base["warmup_steps"] = 0
    # Its losses are averaged over groups, which each have a weight: with 3 they are summed.
    groups = {"group_fractions": [0.25, 0.25, 0.5], "group_weights": [3.0, 3.0, 3.0]}
    made = {
        "batchtopk": BatchTopKTrainer(**base),
        "matryoshka": MatryoshkaBatchTopKTrainer(**base, **groups),
    }
    for name, trainer in made.items():
        encoder, decoder = first_weights(CONCEPTS)
        encoder[-3:] *= 1e-3  # among no largest
        trainer.num_tokens_since_fired[-3:] = 10_000_000
        ae = trainer.ae
        if name == "batchtopk":
            ae.encoder.weight.data, ae.decoder.weight.data = encoder.clone(), decoder.clone()
        else:
            ae.W_enc.data, ae.W_dec.data = encoder.T.clone(), decoder.T.clone()
        log = trainer.loss(samples(), step=0, logging=True)
        trainer.loss(samples(), step=0).backward()
        gradients = (
            (ae.encoder.weight.grad, ae.decoder.weight.grad)
            if name == "batchtopk"
            else (ae.W_enc.grad.T, ae.W_dec.grad.T)
        )
        assert trainer.dead_features == 3
        keep_arrays(
            f"dictionary_learning_{name}_step",
            x=samples(),
            encoder=encoder,
            decoder=decoder,
            z=log.f,
            loss=torch.tensor(log.losses["loss"]),
            reconstruction_loss=torch.tensor(log.losses["l2_loss"]),
            auxiliary_loss=torch.tensor(log.losses["auxk_loss"]),
            by_encoder=gradients[0],
            by_decoder=gradients[1],
            threshold=torch.as_tensor(ae.threshold),
        )


def write_overcomplete_steps() -> None:
    """Gradients and projections of a relaxed archetypal dictionary."""
    from overcomplete.sae.archetypal_dictionary import RelaxedArchetypalDictionary

    draw = torch.Generator().manual_seed(5)
    points = torch.randn(CONCEPTS + 4, CHANNELS, generator=draw)
    dictionary = RelaxedArchetypalDictionary(CHANNELS, CONCEPTS, points, delta=0.3)
    # As after an update: not yet brought back to where they are allowed.
    dictionary.W.data += 0.2 * torch.randn(CONCEPTS, CONCEPTS + 4, generator=draw)
    dictionary.Relax.data += 0.2 * torch.randn(CONCEPTS, CHANNELS, generator=draw)
    dictionary.multiplier.data = torch.tensor(0.7)
    before = {"mixing": dictionary.W.data.clone(), "relaxation": dictionary.Relax.data.clone()}
    weights = torch.randn(CONCEPTS, CHANNELS, generator=draw)
    atoms = dictionary.get_dictionary()
    (atoms * weights).sum().backward()
    keep_arrays(
        "overcomplete_archetypal_step",
        points=points,
        log_gain=dictionary.multiplier,
        **before,
        directions=atoms,
        settled_mixing=dictionary.W,
        settled_relaxation=dictionary.Relax,
        by_directions=weights,
        by_mixing=dictionary.W.grad,
        by_relaxation=dictionary.Relax.grad,
        by_log_gain=dictionary.multiplier.grad,
    )


if __name__ == "__main__":
    write_sae_lens()
    write_dictionary_learning()
    write_overcomplete()
    write_sparsify()
    write_dictionary_learning_steps()
    write_overcomplete_steps()
