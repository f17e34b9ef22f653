"""The command ``factbook c2``: the C2-score of any method's concepts, from a folder.

Scores are made by :func:`fact.encode.concept_folder.score_folder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fact.encode.encoders import EncoderChoice, UntrustedCodeError
from registry.suggest import needs_extras

if TYPE_CHECKING:
    import xarray as xr

COLUMNS = ("score", "n_images", "pixels", "empty_maps")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--encoder", default="efficientnet-lite0", show_default=True, help="Foundation model."
)
@click.option("--upsampler", default="bilinear", show_default=True, help="Enlarges its features.")
@click.option(
    "--side", default=224, show_default=True, help="Shorter side of an image for it, in pixels."
)
@click.option("--trusted", is_flag=True, help="Run code from outside, at its pinned commit.")
@click.option("--centred", is_flag=True, help="Subtract the mean feature of all images.")
@click.option("--quantile", type=float, help="Only images above this quantile of presences.")
@click.option("--by-class", is_flag=True, help="Concepts are of classes: a baseline for each.")
@click.option("--least-images", default=2, show_default=True, help="To count in the mean.")
@click.option("--seed", default=0, show_default=True, help="Of the random maps.")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Scores as .csv or .nc.")
def c2(
    folder: Path,
    encoder: str,
    upsampler: str,
    side: int,
    trusted: bool,
    out: Path | None,
    **settings: Any,
) -> None:
    """Score how consistent the concepts of any method are.

    FOLDER holds images, their maps, and presences. FOLDER/presences.csv has columns concept,
    image, presence; FOLDER/CONCEPT/ holds images, each with its map (y, x) beside it: car.jpg and
    car.npy. Or FOLDER/images/ holds images that concepts share, and FOLDER/maps/CONCEPT/car.npy
    their maps.
    """
    try:
        choice = EncoderChoice(encoder, upsampler, side, trusted)
        with needs_extras():
            from fact.encode.concept_folder import score_folder  # heavy: a command is listed by all

        scores = score_folder(folder, choice, **settings)
        if out is not None:
            _write(scores, out)
    except (UntrustedCodeError, ValueError, ImportError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _write(scores: xr.Dataset, path: Path) -> None:
    if path.suffix == ".nc":
        scores.to_netcdf(path, engine="h5netcdf")
        return
    columns = ["concept_name", *(["concept_class"] if "concept_class" in scores else []), *COLUMNS]
    table = scores[columns].to_dataframe().rename(columns={"concept_name": "name"})
    own = scores["concept_baseline"].values if "concept_baseline" in scores else None
    table["baseline"] = scores["baseline"].item() if own is None else own
    table["variant"] = scores["variant"].item()  # a table that is passed on says what it is of
    table.to_csv(path, index_label="concept")
