"""Measure how consistent each concept is: its C2-score, beside that of random maps."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from evals import schemas

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Config:
    """Configuration of ``evals.measure_consistency``.

    Parameters
    ----------
    centred : bool
        Subtract the dataset's mean feature from every encoding before angles are measured.
    least_images : int
        Encodings that a concept needs to count in the mean score; at least 2.
    n_bins : int
        Bins of the histogram of scores, over [-1, 1].
    """

    centred: bool = True
    least_images: Annotated[int, Field(ge=2)] = 5
    n_bins: Annotated[int, Field(ge=1)] = 50


stage = registry.Stage(
    "evals.measure_consistency",
    version=1,
    config=Config,
    needs={"encodings": "encodings"},
    output=schemas.CONSISTENCY,
    preload=("evals.concepts.consistency",),
)


@stage.main
def measure_consistency(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Score every concept."""
    from evals.concepts.consistency import score_encodings
    from evals.concepts.consistency_table import consistency_table

    def tell(done: int, total: int) -> None:
        run.progress(done, total, "encodings")

    encodings = inputs["encodings"].open()
    measured = score_encodings(
        encodings,
        centred=config.centred,
        least_images=config.least_images,
        n_bins=config.n_bins,
        progress=tell,
    )
    told = "centred" if config.centred else "not centred"
    measured = measured.assign(variant=f"{encodings['variant'].item()}; {told}")
    sys.stdout.write(consistency_table(measured))
    return measured


if __name__ == "__main__":
    registry.run_module(__spec__.name)
