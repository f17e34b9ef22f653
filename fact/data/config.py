"""Configurations of the stages that label inputs or take tables from files; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fact.data.fields import Count, Device


@dataclass(frozen=True)
class LabelConfig:
    """Configuration of ``fact.label_inputs``.

    Parameters
    ----------
    split : str
        The split whose images are labelled.
    """

    split: str = "test"


@dataclass(frozen=True)
class ScoreConfig(LabelConfig):
    """Configuration of ``fact.score_labels``.

    Parameters
    ----------
    labels : str
        Labels that are scored: ``dataset`` takes those of the dataset, whose values are ignored;
        ``imagenet``, ``places365`` or ``cub-attributes`` takes a list that comes along.
    template : str
        Text for a label, with ``{}`` for its name.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    labels: Literal["dataset", "imagenet", "places365", "cub-attributes"] = "dataset"
    template: str = "{}"
    batch: Count = 32
    device: Device = "auto"

    def __post_init__(self) -> None:
        if "{}" not in self.template:
            raise ValueError(f"template {self.template!r}; expected {{}} for a label's name")


@dataclass(frozen=True)
class ImportConfig:
    """Configuration of ``fact.import_labels``.

    Parameters
    ----------
    split : str
        Names inputs that the file does not name: ``test/00000``, ``test/00001``, ….
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
