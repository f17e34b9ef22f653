"""A dataset of C2-scores as a table of text, for consoles."""

from __future__ import annotations

import numpy as np
import xarray as xr


def consistency_table(consistency: xr.Dataset, most: int = 10) -> str:
    """Return the summary, then the most and the least consistent concepts, a line each.

    Beside the score of a concept stands that of random maps of its class, where there are classes.

    Parameters
    ----------
    consistency : Dataset
        Of the schema ``consistency``.
    most : int
        Concepts shown; all of them where they are no more.
    """
    told = {str(name): value.item() for name, value in consistency.items() if not value.dims}
    summary = (
        f"C2-score {told['mean_score']:.3f} over {told['n_scored']} concepts with at least "
        f"{told['least_images']} images; random maps {told['baseline']:.3f}, "
        f"difference {told['difference']:+.3f}\n"
    )
    if "variant" in told:
        summary += f"{told['variant']}\n"
    names = (
        consistency["concept_name"].values
        if "concept_name" in consistency
        else consistency["concept"].values
    ).astype(str)
    score = consistency["score"].values
    order = np.argsort(-np.where(np.isnan(score), -np.inf, score), kind="stable")
    order = order[~np.isnan(score[order])]
    shown = order if len(order) <= most else np.append(order[: most // 2], order[-(most // 2) :])
    width = max([len("concept"), *(len(names[row]) for row in shown)])
    has_classes = "concept_baseline" in consistency
    random = f"{'random':>8}" if has_classes else ""
    lines = [f"{'concept':>{width}}   score{random}  images  pixels  without map"]
    for row in shown:
        if has_classes:
            random = f"  {consistency['concept_baseline'].values[row]:6.3f}"
        lines.append(
            f"{names[row]:>{width}}  {score[row]:6.3f}{random}  "
            f"{consistency['n_images'].values[row]:6d}  "
            f"{consistency['pixels'].values[row]:6.0f}  {consistency['empty_maps'].values[row]:11d}"
        )
    if len(order) > most:
        lines.insert(1 + most // 2, f"{'…':>{width}}")
    return summary + "\n".join(lines) + "\n"
