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


def test_what_a_script_computes_is_drawn_too() -> None:
    tested = evals.theoretical_sanity(metrics=["iou", "recall"], n_draws=20)
    axes = evals.plot_sanity(tested).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["iou", "recall"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.9]


def test_a_form_that_was_not_run_is_refused() -> None:
    with pytest.raises(ValueError, match="form 'real' was not run; expected one of"):
        evals.plot_sanity(sanity(), "real")
