"""Types of configuration keys that stages share; configurations of those that label inputs.

No torch is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

import registry


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value}; expected an odd number")
    return value


Count = Annotated[int, Field(ge=1)]
"""At least 1."""

Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]
"""An odd number, at least 1."""

Index = Annotated[int, Field(ge=0)]
"""A place, from 0."""

Seed = Annotated[int, Field(ge=0)]
"""Of a random generator, 0 or more."""

Positive = Annotated[float, Field(gt=0)]
"""Above 0."""

Precision = Literal["float32", "bf16"]
"""In what products of networks are computed."""


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """Where a stage computes.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda``, …; it cannot change a result.
    """

    device: registry.Runtime[str] = "auto"


@dataclass(frozen=True, kw_only=True)
class InPrecision(OnDevice):
    """Where a stage computes, and how precisely.

    Parameters
    ----------
    precision : str
        ``float32``, or ``bf16``: products of the networks that are run, or trained, are computed
        from bfloat16, of which eight bits are digits, in about half the time where a device has
        units for it.
        Weights, what is chosen by its size, sums, losses and all that is stored stay in float32.
    """

    precision: Annotated[Precision, registry.Since("float32")] = "float32"


@dataclass(frozen=True)
class LabelConfig:
    """Configuration of stages that label images.

    Parameters
    ----------
    split : str
        The split whose images are labelled.
    """

    split: str = "test"


@dataclass(frozen=True)
class InputLabelConfig(LabelConfig):
    """Configuration of ``fact.label_inputs``.

    Parameters
    ----------
    only : tuple of str
        Labels that are kept, by patterns of their names: ``["has_*"]``, ``["class:*"]``; all by
        default.
    """

    only: Annotated[tuple[str, ...], registry.Since(())] = ()


@dataclass(frozen=True)
class ScoreConfig(LabelConfig, OnDevice):
    """Configuration of ``fact.score_labels``.

    Parameters
    ----------
    labels : str
        Labels that are scored, where ``needs.words`` names none: ``dataset`` takes those of the
        dataset, whose values are ignored; ``imagenet``, ``places365`` or ``cub-attributes`` takes a
        list that comes along.
    template : str
        Text for a label, with ``{}`` for its name.
    batch : int
        Images at a time.
    """

    labels: Literal["dataset", "imagenet", "places365", "cub-attributes"] = "dataset"
    template: str = "{}"
    batch: Count = 32

    def __post_init__(self) -> None:
        if "{}" not in self.template:
            raise ValueError(f"template {self.template!r}; expected {{}} for a label's name")


@dataclass(frozen=True)
class EncodeImagesConfig(InPrecision):
    """Configuration of ``fact.encode_images``.

    Parameters
    ----------
    split : str
        The split whose images are encoded.
    normalised : bool
        Bring every vector to length 1.
    batch : int
        Images at a time.
    """

    split: str = "test"
    normalised: bool = False
    batch: Count = 32


@dataclass(frozen=True)
class ImportConfig:
    """Configuration of ``fact.import_labels``.

    Parameters
    ----------
    split : str
        Begins the names of inputs that nothing names, ``test/birds 00000 of 200`` and so on of the
        table ``birds``: such names join no other dataset.
    """

    split: str = "test"


@dataclass(frozen=True)
class ImportActivationsConfig(ImportConfig):
    """Configuration of ``fact.import_activations``.

    Parameters
    ----------
    known : str
        The neurons' ground-truth concepts: what the ``file`` says by an array ``right_concept``,
        or, by ``name``, the label that is named as the neuron is.
    """

    known: Literal["file", "name"] = "file"
