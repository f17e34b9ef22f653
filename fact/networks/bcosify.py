"""B-cosification: an ordinary network as a B-cos network that starts from its weights.

An image gets its six colours ``[x, 1 - x]``, normalised so that the second half is the first's
negative, and the first layer's weights become ``[W, -W] / 2``: as long as biases and max pooling
stay and B is 1, the network is what it was. Then max pooling becomes average pooling, biases go (a
batch norm's running mean is folded into its bias first), and B becomes 2, at once. The head's
linear layer stands before the global average, where a network has one, as the authors have it.
Source: Arya, Rao, Böhle, Schiele, "B-cosification: Transforming Deep Neural Networks to be
Inherently Interpretable", NeurIPS 2024, arXiv 2411.00715.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from bcos.modules import BcosConv2d, LogitLayer
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from fact.networks.arrays import AnyArray
from fact.networks.frozen import (
    Embedding,
    Gate,
    bcos_convolution,
    bcos_linear,
    frozen_attention,
    group_norm,
    layer_norm,
    position_norm,
    uncentred_batch_norm,
)
from fact.networks.linearity import N_IMAGES, TOLERANCE, probe_linearity
from fact.networks.network import Architecture, Network, NetworkError, builder


class ConversionError(NetworkError):
    """A network that cannot be B-cosified, with every layer that stands in the way."""


@dataclass(frozen=True)
class Recipe:
    """How far a conversion goes; by default all the way.

    Attributes
    ----------
    average_pooling : bool
        Average over the windows of max pooling.
    biases : bool
        Keep them all, which leaves the network affine.
    b : float
        Exponent of the B-cos transform; 1 leaves layers as they were.
    """

    average_pooling: bool = True
    biases: bool = False
    b: float = 2


def steps(b: float = 2) -> dict[str, Recipe]:
    """Return the steps of a conversion by name, each with those before it.

    The first leaves what the network computes as it is.
    """
    return {
        "six colours": Recipe(average_pooling=False, biases=True, b=1),
        "average pooling": Recipe(biases=True, b=1),
        "no biases": Recipe(b=1),
        f"b {b:g}": Recipe(b=b),
    }


@dataclass(frozen=True)
class Anatomy:
    """What a conversion has to know of a network beside its layers, by their names.

    Attributes
    ----------
    first : str
        The layer that sees the image.
    head : str
        The linear layer that gives the logits.
    pool : str
        The global average right before it; "" where there is none.
    embeddings : tuple of str
        Parameters that are added or put beside what comes from the image.
    """

    first: str
    head: str
    pool: str = ""
    embeddings: tuple[str, ...] = ()


def bcosify(network: Network, images: AnyArray, recipe: Recipe | None = None) -> Network:
    """Return an ordinary network as a B-cos network with its weights; its own stay as they are.

    Parameters
    ----------
    network : Network
        Not B-cos; its module made of layers that have a B-cos twin.
    images : array
        As :meth:`fact.Network.encode` takes them; the first 8 are run through it.
    recipe : Recipe or None
        How far to go; all the way by default.

    Returns
    -------
    Network
        In evaluation mode, to be fine-tuned, since biases and B = 1 are gone. Layers keep their
        names. ``linear`` and ``probe`` say what was measured.

    Raises
    ------
    ConversionError
        Names every layer that cannot be converted; or if what was converted is not linear in its
        frozen weights after all.
    """
    anatomy = examine(network, images)
    recipe = recipe or Recipe()
    module = convert(network.module, anatomy, recipe)
    settings = {"anatomy": asdict(anatomy), "recipe": asdict(recipe)}
    own = network.architecture
    made = replace(
        network,
        module=module.eval().requires_grad_(False),
        name=f"B-cosified {network.name}",
        bcos=True,
        normalised=True,
        architecture=own and Architecture("bcosified", {"original": asdict(own), **settings}),
        linear=None,
        probe=None,
    )
    return made if recipe.biases else _proven(made, images)


def _proven(network: Network, images: AnyArray) -> Network:
    probed = probe_linearity(network, images)
    if not probed.linear:
        raise ConversionError(
            f"{network.name} is not linear in its frozen weights although every layer was "
            f"converted: a probe missed its logits by {probed.probe:.1e}, allowed {TOLERANCE:.0e}"
        )
    return probed


@builder("bcosified")
def build_bcosified(
    original: Mapping[str, Any], anatomy: Mapping[str, Any], recipe: Mapping[str, Any]
) -> nn.Module:
    """Return an untrained network with the structure of a converted one."""
    known = {**anatomy, "embeddings": tuple(anatomy["embeddings"])}
    return convert(Architecture(**original).draw(), Anatomy(**known), Recipe(**recipe))


# --- what becomes of each layer -----------------------------------------------------------------

Convert = Callable[[Any, Recipe], nn.Module]


def _keep(part: nn.Module, _recipe: Recipe) -> nn.Module:
    return copy.deepcopy(part)


def _out_of_place(part: nn.ReLU | nn.LeakyReLU, _recipe: Recipe) -> nn.Module:
    made = copy.deepcopy(part)
    made.inplace = False  # what a layer puts out is read, and must not change behind it
    return made


def _gate(activation: str) -> Convert:
    return lambda _part, _recipe: Gate(activation)


def _pooling(part: nn.MaxPool2d, recipe: Recipe) -> nn.Module:
    if not recipe.average_pooling:
        return _keep(part, recipe)
    return nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode)


def _torch_attention(part: nn.MultiheadAttention, recipe: Recipe) -> nn.Module:
    out = bcos_linear(_plain_linear(part.out_proj), recipe.b, recipe.biases)
    given = part.in_proj_weight, part.in_proj_bias, out, part.num_heads
    return frozen_attention(*given, recipe.biases, paired=True)


def _plain_linear(part: nn.Linear) -> nn.Linear:
    made = nn.Linear(part.in_features, part.out_features, bias=False)
    made.weight, made.bias = part.weight, part.bias
    return made


def _timm_attention(part: Any, recipe: Recipe) -> nn.Module:
    out = bcos_linear(part.proj, recipe.b, recipe.biases)
    given = part.qkv.weight, part.qkv.bias, out, part.num_heads
    return frozen_attention(*given, recipe.biases)


def _bcos_attention(part: Any, recipe: Recipe) -> nn.Module:
    """Return the attention of the package ``bcos``, which can be frozen as it is."""
    made: nn.Module = copy.deepcopy(part)
    made.norm = layer_norm(part.norm, recipe.biases)
    made.to_out = bcos_linear(part.to_out, recipe.b, recipe.biases)
    return made


CONVERSIONS: dict[str, Convert] = {
    "torch.nn.modules.conv.Conv2d": lambda p, r: bcos_convolution(p, r.b, r.biases),
    "torch.nn.modules.linear.Linear": lambda p, r: bcos_linear(p, r.b, r.biases),
    "torch.nn.modules.batchnorm.BatchNorm2d": lambda p, r: uncentred_batch_norm(p, r.biases),
    "torch.nn.modules.normalization.LayerNorm": lambda p, r: layer_norm(p, r.biases),
    "timm.layers.norm.LayerNorm": lambda p, r: layer_norm(p, r.biases),
    "timm.layers.norm.LayerNorm2d": lambda p, r: position_norm(p, r.biases),
    "torchvision.models.convnext.LayerNorm2d": lambda p, r: position_norm(p, r.biases),
    "torch.nn.modules.normalization.GroupNorm": lambda p, r: group_norm(p, r.biases),
    "torch.nn.modules.activation.ReLU": _out_of_place,
    "torch.nn.modules.activation.LeakyReLU": _out_of_place,
    "torch.nn.modules.activation.ReLU6": _gate("relu6"),
    "torch.nn.modules.activation.SiLU": _gate("silu"),
    "torch.nn.modules.activation.Hardswish": _gate("hardswish"),
    "torch.nn.modules.activation.GELU": lambda p, _r: Gate(
        "gelu_tanh" if p.approximate == "tanh" else "gelu"
    ),
    "timm.layers.activations.GELU": _gate("gelu"),
    "timm.layers.activations.GELUTanh": _gate("gelu_tanh"),
    "torch.nn.modules.pooling.MaxPool2d": _pooling,
    "torch.nn.modules.activation.MultiheadAttention": _torch_attention,
    "timm.layers.attention.Attention": _timm_attention,
    "bcos.models.vit.Attention": _bcos_attention,
    **dict.fromkeys(
        (
            *(f"torch.nn.modules.dropout.{name}" for name in ("Dropout", "Dropout1d", "Dropout2d")),
            "torch.nn.modules.linear.Identity",
            "torch.nn.modules.flatten.Flatten",
            "torch.nn.modules.pooling.AvgPool2d",
            "torch.nn.modules.pooling.AdaptiveAvgPool2d",
            "torch.nn.modules.padding.ZeroPad2d",
            "torchvision.ops.stochastic_depth.StochasticDepth",
            "torchvision.ops.misc.Permute",
            "timm.layers.drop.DropPath",
            "timm.layers.adaptive_avgmax_pool.SelectAdaptivePool2d",
            "einops.layers.torch.Rearrange",
            "bcos.models.vit.PosEmbSinCos2d",
        ),
        _keep,
    ),
}
"""What becomes of a layer, by the full name of its class: subclasses may compute something else."""

_PASSIVE = ("Dropout", "Dropout1d", "Dropout2d", "Flatten", "Identity")


def _class_name(part: nn.Module) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _is_known(part: nn.Module) -> bool:
    return _class_name(part) in CONVERSIONS


def _refusal(part: Any) -> str:
    """Return why a layer of a known class cannot be converted; "" where it can."""
    if isinstance(part, nn.Conv2d) and part.padding_mode != "zeros":
        return f"is padded by {part.padding_mode!r}; expected zeros"
    if isinstance(part, nn.BatchNorm2d) and part.running_var is None:
        return "keeps no running statistics"
    if isinstance(part, nn.MaxPool2d) and (part.return_indices or part.dilation not in (1, (1, 1))):
        return "is max pooling with dilation, or with indices"
    if isinstance(part, nn.MultiheadAttention) and not (
        part.batch_first and part.in_proj_weight is not None and part.bias_k is None
    ):
        return "is attention with images not first, or with keys of their own"
    name = _class_name(part)
    if name == "timm.layers.attention.Attention":
        others = (part.q_norm, part.k_norm, part.norm)
        if part.gate is not None or not all(isinstance(one, nn.Identity) for one in others):
            return "is attention with a gate, or norms of queries and keys"
    if name.endswith(".SelectAdaptivePool2d") and part.pool_type not in ("fast", "avg", "fastavg"):
        return f"pools by {part.pool_type!r}; expected the average"
    return ""


def convert(module: nn.Module, anatomy: Anatomy, recipe: Recipe) -> nn.Module:
    """Return a copy of a module with its layers converted as far as a recipe says.

    Parameters
    ----------
    module : Module
        That :func:`examine` accepted.
    anatomy : Anatomy
        What it found.
    recipe : Recipe
        How far to go.

    Raises
    ------
    NetworkError
        If the anatomy is of another module.
    """
    made = copy.deepcopy(module)
    try:
        _take_six_colours(made.get_submodule(anatomy.first))
        _convert_children(made, recipe, {})
        _set_head(made, anatomy, recipe)
        for name in anatomy.embeddings:
            owner, _, own = name.rpartition(".")
            parametrize.register_parametrization(made.get_submodule(owner), own, Embedding())
    except AttributeError as error:
        raise NetworkError(f"{anatomy} is not of this {type(module).__name__}: {error}") from error
    return made.train(module.training)


def _convert_children(module: nn.Module, recipe: Recipe, made: dict[int, nn.Module]) -> None:
    for name, child in module.named_children():
        if id(child) in made:
            setattr(module, name, made[id(child)])
        elif _is_known(child):
            made[id(child)] = CONVERSIONS[_class_name(child)](child, recipe)
            setattr(module, name, made[id(child)])
        else:
            _convert_children(child, recipe, made)


def _take_six_colours(part: nn.Module) -> None:
    """Turn weights ``W`` of three colours into ``[W, -W] / 2``, in place."""
    if isinstance(part, nn.Conv2d):
        weight = part.weight.data
        part.weight.data, part.in_channels = torch.cat([weight, -weight], dim=1) / 2, 6
    elif isinstance(part, nn.Linear):  # of patches, whose colours are the innermost
        weight = part.weight.data.view(len(part.weight), -1, 3)
        part.weight.data = (torch.cat([weight, -weight], dim=2) / 2).flatten(1)
        part.in_features *= 2


def _set_head(module: nn.Module, anatomy: Anatomy, recipe: Recipe) -> None:
    """Let logits be averaged where features were, and give them the bias of a rare class.

    With biases kept, the head has its own, and no other is added.
    """
    head: Any = module.get_submodule(anatomy.head)
    n_classes = head.out_features
    bias = None if recipe.biases or n_classes < 2 else -math.log(n_classes - 1)
    logits = LogitLayer(logit_bias=bias)
    if not anatomy.pool:
        _replace(module, anatomy.head, nn.Sequential(head, logits))
        return
    pool = module.get_submodule(anatomy.pool)
    _replace(module, anatomy.pool, nn.Sequential(_as_convolution(head), pool))
    _replace(module, anatomy.head, logits)


def _as_convolution(head: Any) -> nn.Module:
    """Return a linear layer as a convolution of single pixels."""
    made: nn.Module = BcosConv2d(head.in_features, head.out_features, b=head.b)
    linear = nn.Conv2d(head.in_features, head.out_features, 1, bias=head.linear.bias is not None)
    linear.weight.data = head.linear.weight.data[:, :, None, None].clone()
    if head.linear.bias is not None:
        linear.bias = head.linear.bias
    made.linear = linear
    return made


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    owner, _, own = name.rpartition(".")
    setattr(module.get_submodule(owner), own, part)


# --- looking at a network before it is converted --------------------------------------------------


def examine(network: Network, images: AnyArray) -> Anatomy:
    """Run a few images through a network, and find what stands in the way of its conversion.

    Every layer has to be of a class with a B-cos twin; what happens between layers has to be
    linear in what comes from the image.

    Parameters
    ----------
    network : Network
        In evaluation mode; a copy is run.
    images : array
        As :meth:`fact.Network.encode` takes them; the first 8 are looked at.

    Raises
    ------
    ConversionError
        Names every layer that cannot be converted and why.
    """
    if network.bcos or network.linear:
        raise ConversionError(f"{network.name} is linear in its frozen weights: nothing to convert")
    module = copy.deepcopy(network.module).eval().requires_grad_(False)
    image = network.encode(images)[:N_IMAGES].detach().requires_grad_()
    watch = _Watch(module)
    with torch.enable_grad(), watch.following(module), watch:
        output = module(image)
    faults = [*watch.faults, *_faults_of_layers(module, watch.calls)]
    if not isinstance(output, Tensor) or output.ndim != 2:
        faults.append(f"the network puts out {_what(output)}; expected logits (image, class)")
    first, head, pool, others = _ends(module, watch.calls)
    if faults := [*dict.fromkeys([*faults, *others])]:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ConversionError(f"{network.name} cannot be B-cosified:\n{listed}")
    return Anatomy(first, head, pool, tuple(sorted(watch.embeddings)))


def _what(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__


def _faults_of_layers(module: nn.Module, calls: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys(calls):
        part = module.get_submodule(name)
        if why := _refusal(part):
            yield f"{name} ({type(part).__name__}) {why}"


def _ends(module: nn.Module, calls: Sequence[str]) -> tuple[str, str, str, list[str]]:
    """Return the names of the first layer, the head and the pooling before it, and faults."""
    parts = [(name, module.get_submodule(name)) for name in calls]
    active = [(name, p) for name, p in parts if type(p).__name__ not in _PASSIVE]
    weighty = [(name, p) for name, p in active if next(p.parameters(), None) is not None]
    if not weighty:
        return "", "", "", ["no layer with weights was reached"]
    faults = []
    first, sees = weighty[0]
    before = active[active.index(weighty[0]) - 1][1] if active[0] != weighty[0] else None
    of_patches = isinstance(sees, nn.Linear) and str(getattr(before, "pattern", "")).endswith("c)")
    of_colours = isinstance(sees, nn.Conv2d) and sees.in_channels == 3
    if not (of_patches or of_colours):
        faults.append(
            f"{first} ({type(sees).__name__}) sees the image; expected a convolution of three "
            "colours, or a linear layer of patches"
        )
    head, last = active[-1]
    if not isinstance(last, nn.Linear):
        faults.append(f"{head} ({type(last).__name__}) comes last; expected a linear layer")
    elif calls.count(head) > 1:
        faults.append(f"{head} (Linear) gives the logits, and is called more than once")
    pool = active[-2][0] if len(active) > 1 and _is_global_average(active[-2][1]) else ""
    return first, head, pool, faults


def _is_global_average(part: Any) -> bool:
    if isinstance(part, nn.AdaptiveAvgPool2d):
        return part.output_size in (1, (1, 1))
    return type(part).__name__ == "SelectAdaptivePool2d"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHAPES = _names(
    "__getitem__ __get__ flatten unflatten reshape view view_as permute transpose movedim swapaxes "
    "contiguous squeeze unsqueeze expand expand_as repeat chunk split tensor_split unbind narrow "
    "select index_select roll clone to type type_as float double alias dropout"
)
_LINEAR = _names(
    "mean sum neg __neg__ avg_pool2d adaptive_avg_pool2d relu relu_ leaky_relu interpolate"
)
_MAXIMA = _names("max_pool2d boolean_dispatch")
_PRODUCTS = _names("mul mul_ multiply __mul__ __rmul__ __imul__")
_QUOTIENTS = _names("div div_ divide true_divide __truediv__ __itruediv__")
_JOINTS = _names("cat concat concatenate stack")
_SUMS = _JOINTS | _names(
    "add add_ __add__ __radd__ __iadd__ sub sub_ __sub__ __rsub__ __isub__ subtract rsub"
)


@dataclass
class _Watch(TorchFunctionMode):
    """Notes what a network does between the layers that are known.

    Whatever comes from the image requires a gradient, and nothing else does.
    """

    module: nn.Module
    faults: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    embeddings: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._names = {id(part): name for name, part in self.module.named_modules()}
        self._stack: list[nn.Module] = []
        self._depth = 0
        self._raw: dict[int, tuple[str, Tensor]] = {
            id(parameter): (name, parameter) for name, parameter in self.module.named_parameters()
        }

    @contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Know which layer is at work while the context lasts."""

        def enter(part: nn.Module, _args: object) -> None:
            self._stack.append(part)
            if _is_known(part):
                if not self._depth:
                    self.calls.append(self._names[id(part)])
                self._depth += 1

        def leave(part: nn.Module, _args: object, output: object) -> None:
            self._stack.pop()
            if _is_known(part):
                self._depth -= 1
            if type(part).__name__ == "PosEmbSinCos2d" and isinstance(output, Tensor):
                self._raw[id(output)] = "", output

        with ExitStack() as stack:
            for part in module.modules():
                stack.enter_context(part.register_forward_pre_hook(enter))
                stack.enter_context(part.register_forward_hook(leave))
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, and look at it where no known layer runs it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        if made and not self._depth:
            self._look(func.__name__, pytree.tree_leaves((args, kwargs)), made)
        return result

    def _look(self, name: str, given: list[Any], made: list[Tensor]) -> None:
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        of_image = [tensor for tensor in tensors if tensor.requires_grad]
        raw = [self._raw[id(t)] for t in tensors if id(t) in self._raw]
        if not of_image:
            self._raw.update({id(tensor): (raw[0][0], tensor) for tensor in made if raw})
            return
        others = [tensor for tensor in tensors if not tensor.requires_grad]
        if name in _SUMS:
            self.embeddings.update(own for own, _ in raw if own)
            numbers = [leaf for leaf in given if isinstance(leaf, float | int)]
            shifted = name not in _JOINTS and len(tensors) < 2 and any(numbers)
            if len(raw) < len(others) or shifted:
                self._fault(f"adds a constant ({name})")
        elif name in _PRODUCTS or name in _QUOTIENTS:
            divisor = tensors[-1] if name in _QUOTIENTS and len(tensors) > 1 else None
            if len(of_image) > 1 or (divisor is not None and divisor.requires_grad):
                self._fault(f"multiplies what comes from the image by what does too ({name})")
        elif name in _MAXIMA:
            self._fault(f"calls {name} itself; make it a layer nn.MaxPool2d, which is converted")
        elif name not in _SHAPES and name not in _LINEAR:
            self._fault(f"calls {name}, which has no B-cos twin")

    def _fault(self, text: str) -> None:
        part = self._stack[-1] if self._stack else self.module
        name = self._names[id(part)] or "the network"
        self.faults.append(f"{name} ({type(part).__name__}) {text}")
