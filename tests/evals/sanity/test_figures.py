"""Figures of sanity tests, read back from their axes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

import evals
from evals.sanity.figures import COLOURS
from tests.dashboards.fabricate_results import sanity


def test_points_are_shares_in_the_colour_of_their_verdicts() -> None:
    dataset = sanity()
    own = dataset.sel(form="theoretical")
    axes = evals.plot_sanity(dataset, "theoretical").axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    tested = own["metric"].values[(own["verdict"].values != "").any(axis=1)].tolist()
    assert names == tested
    drawn = [found for found in axes.collections if len(found.get_offsets()) == len(tested)]
    [missing] = [found for found in drawn if np.allclose(found.get_offsets()[:, 1] % 1, 0.86)][:1]
    shares = own.sel(test="missing", metric=tested)
    np.testing.assert_allclose(missing.get_offsets()[:, 0], shares["decrease_accuracy"])
    colours = [to_hex(colour) for colour in missing.get_facecolors()]
    assert colours == [COLOURS[verdict] for verdict in shares["verdict"].values]


def test_a_form_that_was_not_run_is_refused() -> None:
    with pytest.raises(ValueError, match="form 'real' was not run; expected one of"):
        evals.plot_sanity(sanity(), "real")
