"""Take labels from a file that was made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry
from fact import schemas

if TYPE_CHECKING:
    import xarray as xr

    from fact.data.array_file import NamedArray


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.import_labels``.

    Parameters
    ----------
    split : str
        Names inputs that the file does not name: ``test/00000``, ``test/00001``, ….
    """

    split: str = "test"


stage = registry.Stage(
    "fact.import_labels",
    version=1,
    config=Config,
    needs={"arrays": "arrays"},
    output=schemas.LABELS,
)


@stage.main
def import_labels(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Take the file's table, whose values are 0, 1, or probabilities."""
    import numpy as np
    import xarray as xr

    table: NamedArray = inputs["arrays"].load()
    values = table.rows(slice(0, None))
    outside = int(((values < 0) | (values > 1)).sum())
    if outside:
        raise ValueError(f"{outside} labels are outside [0, 1]; expected 0, 1, or probabilities")
    coords = {
        "image": table.image_ids(config.split).astype(object),
        "label": np.array(table.columns, dtype=object),
    }
    return xr.Dataset({"value": (("image", "label"), values)}, coords)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
