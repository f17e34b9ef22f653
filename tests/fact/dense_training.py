"""The straight way to train a bias-free TopK SAE: dense codes, automatic differentiation.

Written from the published description alone, as an oracle for `fact.sae.steps` and as what its
speed is measured against.
"""

import math

import torch


class DenseTraining:
    """One update per call of `step`; returns (loss, reconstruction loss, auxiliary loss)."""

    def __init__(
        self, encoder, decoder, k, *, steps, warmup, decay_start, lr, dead_after, auxiliary_k=256
    ):
        self.encoder = encoder.clone().requires_grad_()
        self.decoder = decoder.clone().requires_grad_()
        self.k, self.auxiliary_k, self.dead_after = k, auxiliary_k, dead_after
        self.since_fired = torch.zeros(len(encoder), dtype=torch.int64)
        self.adam = torch.optim.Adam([self.encoder, self.decoder], lr=lr, betas=(0.9, 0.999))

        def factor(s):
            if s < warmup:
                return s / warmup
            if s < decay_start:
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * (s - decay_start) / (steps - decay_start)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.adam, factor)

    def step(self, x):
        activations = torch.relu(x @ self.encoder.T)
        top = activations.topk(self.k, dim=1, sorted=False)
        codes = torch.zeros_like(activations).scatter(1, top.indices, top.values)
        residual = x - codes @ self.decoder.T
        self.since_fired += len(x)
        self.since_fired[top.indices.unique()] = 0
        reconstruction = residual.pow(2).sum(1).mean()
        auxiliary = self.auxiliary(residual.detach(), activations)
        loss = reconstruction + auxiliary / 32
        loss.backward()
        with torch.no_grad():
            unit = self.decoder / self.decoder.norm(dim=0)
            self.decoder.grad -= (self.decoder.grad * unit).sum(0) * unit
            torch.nn.utils.clip_grad_norm_([self.encoder, self.decoder], 1.0)
        self.adam.step()
        self.adam.zero_grad()
        with torch.no_grad():
            self.decoder /= self.decoder.norm(dim=0)
        self.schedule.step()
        return loss.item(), reconstruction.item(), auxiliary.item()

    def auxiliary(self, residual, activations):
        dead = self.since_fired >= self.dead_after
        n_dead = int(dead.sum())
        if n_dead == 0:
            return torch.zeros((), dtype=residual.dtype)
        of_dead = torch.where(dead, activations, -torch.inf)
        top = of_dead.topk(min(self.auxiliary_k, n_dead), dim=1, sorted=False)
        codes = torch.zeros_like(activations).scatter(1, top.indices, top.values)
        missed = (residual - codes @ self.decoder.T).pow(2).sum(1).mean()
        variance = (residual - residual.mean(0)).pow(2).sum(1).mean()
        return torch.nan_to_num(missed / variance, nan=0.0)
