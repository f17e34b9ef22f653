"""Measure presence and exact contribution of every concept in every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

import registry
from fact import schemas


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.measure_concepts``.

    Parameters
    ----------
    split : str
        The split to measure on.
    target : str
        The logit that is explained: ``prediction``, ``label``, or the name of a class.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    split: str = "test"
    target: str = "prediction"
    batch: Annotated[int, Field(ge=1)] = 128
    device: registry.Runtime[str] = "auto"


stage = registry.Stage(
    "fact.measure_concepts",
    version=1,
    config=Config,
    needs={"sae": "sae", "images": "images"},
    output=schemas.CONCEPTS,
    preload=("fact.traces.measurement",),
)


@stage.main
def measure_concepts(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Splice the SAE into the network whose features it was trained on, and measure."""
    from fact.traces.concept_source import ConceptSource
    from fact.traces.measurement import Measurement

    source = ConceptSource.of_sae(inputs["sae"], config.device)
    images = inputs["images"].load()
    measurement = Measurement(
        source.network, source.layer, source.sae, images, config.split, config.target, config.batch
    )
    return measurement.run(run)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
