"""Lines for experiments.toml that would make evidence on concepts which nothing makes yet."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from dashboards.views.concepts.labels import SETS
from dashboards.views.parts.parts import file_name
from dashboards.views.runs.settings import autoencoder_of, cells_of, made_of
from registry.catalog.lineage import Lineage
from registry.declare.faults import StageError
from registry.declare.stage import load_stage

IMAGES = "IMAGES"
"""Stands for images whose name is not known."""


@dataclass
class _Lines:
    """Experiments that are proposed, in order.

    Attributes
    ----------
    own : str
        Name of the concepts, as a part of names.
    blocks : dict of str to str
        By the name of the experiment.
    """

    own: str
    blocks: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        what: str,
        stage: str,
        needs: Mapping[str, str],
        config: Mapping[str, Any] | None = None,
        before: str = "",
    ) -> str:
        """Propose an experiment, with what has to be done before, and return its name."""
        name = f"{self.own}-{what}"
        lines = [f"# {before}"] if before else []
        lines += [f"[experiments.{name}]", f'stage = "{stage}"', f"needs = {_inline(needs)}"]
        lines += [f"config = {_inline(config)}"] if config else []
        self.blocks[name] = "\n".join(lines)
        return name

    @property
    def text(self) -> str:
        """All of them."""
        return "\n\n".join(self.blocks.values())


def missing_evidence(lineage: Lineage, name: str, known: Collection[str]) -> str:
    """Return the lines that would make what is missing of names, C2-scores, places, and matches.

    Parameters
    ----------
    lineage : Lineage
        What was made from what.
    name : str
        Of the concepts, in it.
    known : collection of str
        Schemas that are there, or that an experiment makes already.

    Returns
    -------
    str
        Of TOML, with the names of this project; "" where nothing is missing, or where it cannot
        be made of these: of a former run. Neurons of images have names and places, and those of
        texts names.
    """
    entry = lineage.entries.get(name)
    if entry is None or entry.provides not in SETS or not entry.is_current:
        return ""
    lines = _Lines(file_name(entry.cell))
    is_of_texts, is_concept = entry.provides == "next_tokens", entry.provides == "concepts"
    images = entry.needs.get("images", IMAGES)
    named = next(iter(cells_of(lineage, "names", made_from=name)), "")
    if "names" not in known and not named:
        labels = entry.cell if is_of_texts else _labels_of(lineage, images)
        labels = labels or lines.add("labels", "fact.label_inputs", {"images": images})
        needs = {"activations": entry.cell, "labels": labels}
        if sanity := _sanity_of(lineage, labels):
            needs["sanity"] = sanity
        config = {"by_sequence": True} if is_of_texts else {}
        named = lines.add("names", "evals.name_concepts", needs, config)
    if is_of_texts or not (is_concept or entry.needs.get("network")):
        return lines.text
    if "consistency" not in known and is_concept:
        encodings = _of(lineage, name, "encodings") or lines.add(
            "encodings", "fact.encode_concepts", {"concepts": entry.cell}
        )
        lines.add("consistency", "evals.measure_consistency", {"encodings": encodings})
    if "localisation" not in known:
        maps = _of(lineage, name, "maps") or lines.add(
            "maps", "fact.map_concepts", {"concepts": entry.cell}
        )
        masks = _of(lineage, name, "masks") or lines.add(
            "masks", "fact.mask_inputs", {"maps": maps}, before=_masks_first(lineage, images)
        )
        needs = {"maps": maps, "masks": masks, "names": named}
        lines.add("localisation", "evals.localise_concepts", needs)
    sae = autoencoder_of(lineage, name)
    if "matching" not in known and sae:
        other = lineage.entries[sae]
        config = _set(other.stage, other.config) | {"seed": int(other.config.get("seed", 0)) + 1}
        again = lines.add("other-sae", other.stage, other.needs, config)
        pair = {"one": entry.cell, "other": f"{lines.own}-again"}
        lines.add("again", entry.stage, {**entry.needs, "sae": again})
        lines.add("matching", "evals.match_concepts", pair)
    return lines.text


def _masks_first(lineage: Lineage, images: str) -> str:
    """Return that images need masks, where their kind takes them and none are given."""
    declared = lineage.graph.declaration.resources.get(images)
    if declared is None or getattr(declared.settings, "masks", "") is not None:
        return ""
    return f'First masks of what labels name, in [datasets.{images}]: masks = "FOLDER"'


def _sanity_of(lineage: Lineage, labels: str) -> str:
    """Return the checks of metrics on the same labels, "" if there are none."""
    return next((one for one in cells_of(lineage, "sanity", made_from=labels)), "")


def _of(lineage: Lineage, name: str, schema: str) -> str:
    """Return what a declared experiment makes of it already, "" if none does."""
    made = made_of(lineage, name, schema)
    return next((one for one in made if lineage.entries[one].is_current), "")


def _labels_of(lineage: Lineage, images: str) -> str:
    """Return what labels the same images, "" if nothing does."""
    declared = (lineage.entries[one] for one in cells_of(lineage, "labels"))
    return next((e.cell for e in declared if e.is_current and images in e.needs.values()), "")


def _set(stage: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a configuration that are not as they are by default, without the seed."""
    try:
        known = fields(load_stage(stage).config)
    except (StageError, TypeError):
        return {}
    default: dict[str, Any] = {
        one.name: one.default_factory() if one.default_factory is not MISSING else one.default
        for one in known
    }
    return {
        key: value
        for key, value in config.items()
        if key in default and value is not None and key != "seed"
        if value != (list(default[key]) if isinstance(value, list) else default[key])
    }


def _inline(values: Mapping[str, Any]) -> str:
    """Return an inline table of TOML; plain values are written as in JSON."""
    return f"{{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in values.items())} }}"
