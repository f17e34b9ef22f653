"""Writes the SAEs of this folder by the libraries' own code, with what it encodes and decodes.

Run in an environment of its own, never in that of the tests (they need none of these)::

    pip install sae-lens==6.54.12 dictionary-learning==0.1.0 overcomplete==0.3.0 eai-sparsify==1.3.3
    python tests/fact/sae/foreign/write.py

Each folder holds what the library saves, and ``expected.npz``: samples ``x``, codes ``z``,
reconstructions ``x_hat``.
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


if __name__ == "__main__":
    write_sae_lens()
    write_dictionary_learning()
    write_overcomplete()
    write_sparsify()
