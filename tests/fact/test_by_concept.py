"""Presences by concept, against dense arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr

from fact.traces.by_concept import (
    Block,
    Presences,
    read_alone,
    read_blocks,
    read_presences,
)

IMAGES, CONCEPTS = 57, 9


def dense(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return presences and contributions: sparse, signed; concept 4 is dead, 5 is everywhere."""
    random = np.random.default_rng(seed)
    presence = random.normal(size=(IMAGES, CONCEPTS)) * (random.random((IMAGES, CONCEPTS)) < 0.3)
    presence[:, 4], presence[:, 5] = 0, 2.5
    contribution = presence * random.normal(size=CONCEPTS)
    contribution[3, 0], presence[3, 0] = 1.5, 0  # presences that cancel still contribute
    return presence.astype(np.float32), contribution.astype(np.float32)


def dataset() -> xr.Dataset:
    presence, contribution = dense()
    dims = ("image", "concept")
    return xr.Dataset({"presence": (dims, presence), "contribution": (dims, contribution)})


def presences(step: int) -> Presences:
    return Presences(IMAGES, tuple(read_blocks(dataset(), step * CONCEPTS)))


@pytest.mark.parametrize("step", [1, 10, 57, 1000])
def test_a_column_is_what_is_not_zero_of_it(step: int) -> None:
    presence, contribution = dense()
    known = presences(step)
    assert known.is_whole
    for concept in range(CONCEPTS):
        column = known.column(concept)
        rows = np.flatnonzero((presence[:, concept] != 0) | (contribution[:, concept] != 0))
        np.testing.assert_array_equal(column["row"], rows)
        np.testing.assert_array_equal(column["presence"], presence[rows, concept])
        np.testing.assert_array_equal(column["contribution"], contribution[rows, concept])


@pytest.mark.parametrize("step", [7, 57])
def test_correlations_are_those_of_numpy(step: int) -> None:
    presence, _ = dense()
    known = presences(step)
    alive = [concept for concept in range(CONCEPTS) if concept not in (4, 5)]
    expected = np.corrcoef(presence[:, alive].astype(np.float64), rowvar=False)
    for place, concept in enumerate(alive):
        found = known.correlations(concept)
        np.testing.assert_allclose(found[alive], expected[place], atol=1e-12)
        assert np.isnan(found[[4, 5]]).all()


def test_a_concept_that_is_the_same_everywhere_correlates_with_none() -> None:
    known = presences(57)
    assert np.isnan(known.correlations(4)).all()
    assert np.isnan(known.correlations(5)).all()


def test_what_was_read_so_far_is_told_by_itself() -> None:
    presence, _ = dense()
    known = Presences(IMAGES, presences(20).blocks[:2])
    assert (known.n_read, known.is_whole) == (40, False)
    expected = np.corrcoef(presence[:40, 0].astype(np.float64), presence[:40, 1])[0, 1]
    assert known.correlations(0)[1] == pytest.approx(expected)
    assert len(Presences(IMAGES, ()).column(0)) == 0


def test_a_lazy_dataset_is_read_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fact.traces.by_concept.READ_CELLS", 5 * CONCEPTS)
    known = read_presences(dataset().chunk(image=8))
    whole = read_presences(dataset())
    for concept in range(CONCEPTS):
        np.testing.assert_array_equal(known.column(concept), whole.column(concept))


def test_dimensions_may_stand_in_any_order() -> None:
    turned = dataset().transpose("concept", "image")
    np.testing.assert_array_equal(
        read_presences(turned).column(2), read_presences(dataset()).column(2)
    )


def test_blocks_count_moments_of_presences() -> None:
    presence, contribution = dense()
    block = Block.of(10, presence, contribution)
    exact = presence.astype(np.float64)
    np.testing.assert_allclose(block.moments, [exact.sum(axis=0), (exact**2).sum(axis=0)])


def test_nothing_is_read_before_it_is_asked_for() -> None:
    blocks = read_blocks(dataset(), CONCEPTS)
    assert isinstance(blocks, Iterator)
    assert next(blocks).stop == 1


def test_a_concept_alone_is_what_it_is_among_all() -> None:
    whole = read_presences(dataset())
    for concept in range(CONCEPTS):
        alone = read_alone(dataset().chunk(image=8), concept)
        assert alone.is_whole
        np.testing.assert_array_equal(alone.column(0), whole.column(concept))
