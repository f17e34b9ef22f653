"""The concept bottleneck's checkpoint, of the original's class layout, whose module is gone."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import inception

HEADS = """
from torch import nn

class FC(nn.Module):
    def __init__(self, width, outputs, expand_dim):
        super().__init__()
        self.expand_dim = expand_dim
        if expand_dim > 0:
            self.relu = nn.ReLU()
            self.fc_new = nn.Linear(width, expand_dim)
            self.fc = nn.Linear(expand_dim, outputs)
        else:
            self.fc = nn.Linear(width, outputs)

class MLP(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.expand_dim = 0
        self.linear = nn.Linear(width, outputs)

class End2EndModel(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first_model, self.sec_model = first, second
        self.use_relu, self.use_sigmoid = False, True
"""
PARTS = ("BasicConv2d", *(f"Inception{letter}" for letter in "ABCDE"), "InceptionAux")


def save_bottleneck(
    path: Path,
    n_attributes: int = 112,
    *,
    expand_dim: int = 0,
    outputs: int = 1,
    bottleneck: bool = True,
    joint: bool = False,
    is_zip: bool = True,
) -> Callable[[Tensor], Tensor]:
    """Write a whole untrained model; return what its attributes' logits are, by torchvision.

    Parameters
    ----------
    path : Path
        The file. The module of its classes is removed again.
    n_attributes, expand_dim, outputs : int
        Attributes, width of a hidden layer before each, and outputs of each.
    bottleneck : bool
        Whether there is no layer for birds before those of attributes.
    joint : bool
        Whether the model that tells birds from attributes is around it.
    is_zip : bool
        Whether in the layout of torch 1.6 and later.
    """
    package, module = types.ModuleType("CUB"), types.ModuleType("CUB.template_model")
    sys.modules |= {"CUB": package, "CUB.template_model": module}
    exec(compile(HEADS, "template_model.py", "exec"), module.__dict__)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = inception.Inception3(
            200, aux_logits=False, transform_input=True, init_weights=False
        )
        model.AuxLogits = inception.InceptionAux(8, 2)  # there, and never read
        model.AuxLogits.all_fc = nn.ModuleList([module.FC(768, outputs, 0) for _ in range(2)])
        model.aux_logits = True
        model.fc = nn.Identity()
        counts = [] if bottleneck else [200]
        heads = nn.ModuleList(
            [module.FC(2048, n, expand_dim) for n in [*counts, *[outputs] * n_attributes]]
        )
        whole = module.End2EndModel(model, module.MLP(n_attributes, 200)) if joint else model
    model.eval()
    for part in model.modules():  # batch norms that keep logits in a middle range
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.fill_(0.15)
    _rename(model, module)
    layers = [head.fc for head in heads][len(counts) :]

    def logits(images: Tensor) -> Tensor:
        with torch.no_grad():
            features = inception.Inception3._forward(model, model._transform_input(images))[0]
            return torch.cat([layer(features) for layer in layers], dim=1)

    model.n_attributes, model.bottleneck, model.all_fc = n_attributes, bottleneck, heads
    del model.fc
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sources that it does not find
        torch.save(whole, path, _use_new_zipfile_serialization=is_zip)
    model.fc = nn.Identity()
    model.aux_logits = False
    for name in ("CUB", "CUB.template_model"):
        del sys.modules[name]
    return logits


def _rename(model: nn.Module, module: types.ModuleType) -> None:
    """Make the classes of torchvision's Inception those of a module of another name."""
    for name in (*PARTS, "Inception3"):
        own = type(name, (getattr(inception, name),), {"__module__": module.__name__})
        setattr(module, name, own)
    for part in model.modules():
        own = getattr(module, type(part).__name__, None)
        if own is not None and type(part).__module__ == inception.__name__:
            part.__class__ = own
