"""Compare maps of concepts with masks: is a concept where the label is that names it?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from evals import schemas

if TYPE_CHECKING:
    import xarray as xr

CONSENSUS = "consensus"


@dataclass(frozen=True)
class Config:
    """Configuration of ``evals.localise_concepts``.

    Parameters
    ----------
    names_by : str
        Whose names are localised: those of the ``consensus``, or of one metric.
    tolerance : float
        Distance from a mask, in cells of the maps, up to which a map's maximum counts as in it.
    mass : float
        Share of a map's positive part that the fewest cells hold, in (0, 1], whose intersection
        over union with the mask is taken.
    n_ranks : int
        Labels of the largest gain that are kept for each concept, at least 1.
    n_bootstrap : int
        Draws of an interval, over a concept's images; 0 for none.
    confidence : float
        Share of draws within an interval, in (0, 1).
    seed : int
        Draws the bootstrap.
    """

    names_by: str = CONSENSUS
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    mass: Annotated[float, Field(gt=0, le=1)] = 0.8
    n_ranks: Annotated[int, Field(ge=1)] = 3
    n_bootstrap: Annotated[int, Field(ge=0)] = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0


stage = registry.Stage(
    "evals.localise_concepts",
    version=1,
    config=Config,
    needs={"maps": "maps", "masks": "masks", "names": "names?"},
    output=schemas.LOCALISATION,
    preload=("evals.concepts.localisation",),
)


@stage.main
def localise_concepts(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Localise every concept, with the label that names it where there are names."""
    from evals.concepts.localisation import LocalisationOptions, localise
    from evals.concepts.localisation_table import localisation_table

    options = LocalisationOptions(
        tolerance=config.tolerance,
        mass=config.mass,
        n_ranks=config.n_ranks,
        n_bootstrap=config.n_bootstrap,
        confidence=config.confidence,
        seed=config.seed,
    )

    def tell(done: int, total: int) -> None:
        run.progress(done, total, "concepts")

    names = None
    if "names" in inputs:
        with inputs["names"].open() as named:
            names = _names(named, config.names_by)
    with inputs["maps"].open() as maps, inputs["masks"].open() as masks:
        localised = localise(maps, masks, names, options, tell)
    sys.stdout.write(localisation_table(localised))
    return localised


def _names(named: xr.Dataset, names_by: str) -> xr.DataArray:
    """Return the names (concept,) of the consensus or of a metric.

    Raises
    ------
    ValueError
        If the concepts were not named by that metric.
    """
    from registry.suggest import nearest

    if names_by == CONSENSUS:
        return named["consensus"].load()
    metrics = named["metric"].values.astype(str).tolist()
    if names_by not in metrics:
        raise ValueError(f"no names by {names_by!r}{nearest(names_by, [CONSENSUS, *metrics])}")
    return named["name"].isel(metric=metrics.index(names_by)).load()


if __name__ == "__main__":
    registry.run_module(__spec__.name)
