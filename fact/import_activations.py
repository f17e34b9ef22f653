"""Take activations of neurons from a file that was made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import registry
from fact import schemas

if TYPE_CHECKING:
    from fact.data.array_file import NamedArray

SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.import_activations``.

    Parameters
    ----------
    known : str
        What the neurons' known concepts are: what the ``file`` says by an array
        ``right_concept``, or, by ``name``, the label that is called as the neuron is.
    split : str
        Names inputs that the file does not name: ``test/00000``, ``test/00001``, ….
    """

    known: Literal["file", "name"] = "file"
    split: str = "test"


stage = registry.Stage(
    "fact.import_activations",
    version=1,
    config=Config,
    needs={"arrays": "arrays"},
    output=schemas.ACTIVATIONS,
)


@stage.main
def import_activations(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Take the file's table, shard by shard."""
    import numpy as np
    import xarray as xr

    table: NamedArray = inputs["arrays"].load()
    right = table.columns if config.known == "name" else table.right_concepts
    ids, writer = table.image_ids(config.split), run.shards()
    size = max(1, SHARD_BYTES // (4 * len(table.columns)))
    for index, start in enumerate(range(0, len(table), size)):
        chosen = slice(start, start + size)
        if index not in writer.done:
            part = xr.Dataset(
                {"activation": (("image", "neuron"), table.rows(chosen))},
                {"image": ids[chosen].astype(object), "neuron": np.arange(len(table.columns))},
            )
            writer.append(part, index)
        run.progress(min(start + size, len(table)), len(table), "inputs")
    summary = xr.Dataset(
        {
            "name": ("neuron", np.array(table.columns, dtype=object)),
            "right_concept": ("neuron", np.array(right, dtype=object)),
            "variant": f"from the file of {inputs['arrays'].name}",
            "n_images": len(table),
            "n_neurons": len(table.columns),
            "n_known": sum(map(bool, right)),
        }
    )
    return writer.finish(summary)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
