"""Take concepts away and put them back: does the logit follow what contributions promised?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.intervene_concepts``.

    Parameters
    ----------
    n_images : int
        Images drawn at random from those that were measured; all where there are no more.
    scale : float
        By which a concept that is taken away is multiplied; 0 removes it.
    orders : tuple of str
        In which concepts are taken: ``contribution``, ``presence``, ``random``.
    n_steps : int
        Steps of a curve, each an equal share of an image's concepts.
    n_single : int
        Concepts of largest contribution of each image that are taken away alone.
    n_bootstrap : int
        Draws of images for intervals of 95 %.
    seed : int
        Of the images, the random order and the bootstrap.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    n_images: Annotated[int, Field(ge=2)] = 200
    scale: Annotated[float, Field(ge=0)] = 0.0
    orders: Annotated[
        tuple[Literal["contribution", "presence", "random"], ...], Field(min_length=1)
    ] = ("contribution", "presence", "random")
    n_steps: Annotated[int, Field(ge=1)] = 10
    n_single: Annotated[int, Field(ge=1)] = 5
    n_bootstrap: Annotated[int, Field(ge=2)] = 500
    seed: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1)] = 50
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if len(set(self.orders)) < len(self.orders):
            raise ValueError(f"orders {list(self.orders)}; expected each once")


stage = registry.Stage(
    "fact.intervene_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts"},
    output=schemas.INTERVENTION,
    preload=("fact.traces.intervention_summary",),
)


@stage.main
def intervene_concepts(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Intervene in the logits that the concepts were measured for."""
    import torch

    from fact.data.images import batches
    from fact.traces.concept_source import ConceptSource
    from fact.traces.intervention_summary import intervention_table, summarise
    from fact.traces.interventions import ConceptSurgery, InterventionPlan, Outcome, intervene
    from fact.traces.spliced import target_of

    source = ConceptSource.of_concepts(inputs["concepts"], config.device)
    images = inputs["concepts"].origin("images").load()
    plan = InterventionPlan(
        config.scale, config.orders, config.n_steps, config.n_single, config.seed
    )
    with inputs["concepts"].open() as measured:
        chosen = _drawn(measured.sizes["image"], config)
        ids = measured["image"].values[chosen].astype(str)
        labels, target = (measured[name].values[chosen] for name in ("label", "target"))
    parts: list[Outcome] = []
    done = 0
    for names, pictures in batches(images, ids, config.batch, source.network.geometry):
        encoded = source.network.encode(pictures)
        own = torch.as_tensor(target[done : done + len(names)], device=encoded.device)
        pick = target_of(source.network, "label", own)
        surgery = ConceptSurgery(source.network, source.layer, source.sae, encoded, pick)
        parts.append(intervene(surgery, plan, names.tolist()))
        done += len(names)
        run.progress(done, len(ids), "images")
    summary = summarise(Outcome.join(parts), labels, plan, config.n_bootstrap)
    sys.stdout.write(intervention_table(summary))
    return summary.assign(target=("image", target)).assign_coords(image=ids.astype(object))


def _drawn(count: int, config: Config) -> NDArray[np.int64]:
    import numpy as np

    drawn = np.random.default_rng(config.seed).permutation(count)[: config.n_images]
    return np.sort(drawn)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
