"""Datasets of names as tables of text, for consoles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from evals.kernels.statistics import mean_defined
from evals.metrics.tolerance import faults_text
from evals.naming.consensus import UNTESTED
from evals.naming.verdicts import (
    chance_lines,
    chance_of,
    is_by_majority,
    is_unanimous,
    rank_of,
    second_texts,
    votes_by_chance,
)
from evals.sanity.protocol import THEORETICAL
from evals.scoring.seen_images import seen_note
from registry.columns import Column, ResultTable
from registry.terminal import text_table
from registry.wording import counted, share_text, verb


def _agreeing(names: xr.Dataset) -> list[float]:
    """Return the fraction of consensus names (metric,) that each metric chooses too."""
    chosen, consensus = names["name"].values, names["consensus"].values
    agrees = (chosen == consensus[:, None])[consensus != ""]
    return agrees.mean(axis=0).tolist() if len(agrees) else [np.nan] * chosen.shape[1]


def _means(variable: str) -> Callable[[xr.Dataset], np.ndarray]:
    return lambda names: mean_defined(names[variable].values, axis=0)


def _votes(names: xr.Dataset) -> list[str]:
    """Return whether each metric votes; one without a verdict is named as such."""
    votes, verdicts = names["votes"].values, names["verdict"].values.astype(str)
    untested = np.where(verdicts == UNTESTED, ", untested", "")
    return [f"{'yes' if vote else 'no'}{why}" for vote, why in zip(votes, untested, strict=True)]


def _known_means(variable: str) -> Callable[[xr.Dataset], np.ndarray | None]:
    return lambda names: _means(variable)(names) if variable in names else None


def _different(names: xr.Dataset) -> list[int]:
    chosen = names["name"].transpose("metric", "concept").values.astype(str)
    return [len(set(own) - {""}) for own in chosen]


NAMERS = ResultTable(
    "metric",
    {
        "verdict": Column("", "sanity checks", "of the metric", short="sanity"),
        "votes": Column(
            "",
            "",
            "whether the metric takes part in the consensus",
            lambda names: _votes(names),
        ),
        "agrees": Column(
            ".1%", "", "fraction of concepts with a consensus that it names likewise", _agreeing
        ),
        "score": Column(
            ".3f", "mean score", "of its names, on the scoring half", _means("score"), short="score"
        ),
        "by_chance": Column(
            ".3f",
            "by chance",
            "mean of what its names score at most with permuted labels, at the confidence",
            _known_means("score_by_chance"),
            short="chance",
        ),
        "above_chance": Column(
            ".1%",
            "above chance",
            "fraction of its tested names, by the smallest p of all concepts",
            "above_chance_share",
            short="above",
        ),
        "margin": Column(
            ".3f", "mean margin", "over the second-best label", _means("margin"), short="margin"
        ),
        "tied": Column(
            "d",
            "",
            "names that another label equals",
            lambda names: (names["tied"].values > 0).sum(axis=0),
        ),
        "undefined": Column(
            ".2%", "", "fraction of undefined pairs", "undefined_share", short=None
        ),
        "names": Column("d", "", "different names", _different, short=None),
        "right": Column(
            ".1%", "correct", "fraction of correct names, where the label is known", "right_share"
        ),
    },
)
"""A row for each metric as a namer; of schema ``names``."""

SCORE, VOTES = Column(".3f"), Column(".0f")
WIDTH = 100  # characters of a line, as wide as a console may be
SHOWN_NAMES = 20


def names_table(names: xr.Dataset, most: int = 15) -> str:
    """Return the concepts that are named best, then what each metric is worth as a namer.

    In this order, since the end of a long text is what a console shows.

    Parameters
    ----------
    names : Dataset
        Of the schema ``names``.
    most : int
        Concepts shown: those whose consensus is surest against chance, then those with the most
        votes, then by margin.

    Returns
    -------
    str
        A line for each concept: its consensus, the votes for it and how many there are at most by
        chance, the verdict and the p, the consensus beside it that is no class, and its score by
        each voting metric, in as many tables as these take. Then a line for each metric: the
        verdict of its sanity check, whether it votes, how often its name is the consensus, mean
        score of its names, by chance too, the fraction above chance, mean margin, names that
        another label equals, and, where the label is known, the fraction of correct names.
    """
    parts = [_concepts(names, most), NAMERS.text(names), _remarks(names) + faults_text(names.attrs)]
    return "\n".join(parts)


def tested_note(names: xr.Dataset) -> str:
    """Return in words on what the metrics of names were tested, "" where that is not known.

    Parameters
    ----------
    names : Dataset
        Of the schema ``names``.
    """
    forms = names["sanity_forms"].item() if "sanity_forms" in names else ""
    if forms == THEORETICAL:
        return "Metrics were tested theoretically only, on no real neurons."
    return f"Sanity check: {forms}." if forms else ""


def wrapped_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], repeated: int, width: int = WIDTH
) -> str:
    """Return rows in as many tables as it takes for lines of so many characters.

    Parameters
    ----------
    header, rows : sequence
        As for `text_table`.
    repeated : int
        The first columns, which every table begins with.
    width : int
        Characters of a line; exceeded where a single column beside the repeated ones is wider.
    """
    widths = [max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)]
    tables: list[list[int]] = [[*range(repeated)]]
    for index in range(repeated, len(header)):
        last = tables[-1]
        if len(last) > repeated and sum(widths[own] for own in [*last, index]) - 2 > width:
            tables.append([*range(repeated)])
        tables[-1].append(index)
    return "\n".join(
        text_table([header[index] for index in own], [[row[p] for p in own] for row in rows])
        for own in tables
    )


def _concepts(names: xr.Dataset, most: int) -> str:
    votes, voting = names["consensus_votes"].values, np.flatnonzero(names["votes"].values)
    chosen, consensus = names["name"].values, names["consensus"].values
    score = names["consensus_score"].values
    own = np.where(chosen == consensus[:, None], names["margin"].values, np.nan)[:, voting]
    margin = np.nan_to_num(own).mean(axis=1) if len(voting) else np.zeros(len(votes))
    metrics = names["metric"].values.astype(str)
    verdicts, second = chance_of(names), second_texts(names)
    order = [row for row in np.lexsort((-margin, -votes, rank_of(verdicts))) if votes[row]][:most]
    rows = [
        [
            str(consensus[row]),
            str(names["concept"].values[row]),
            f"{votes[row]}/{len(voting)}",
            *_chance(names, row, verdicts),
            *([second[row]] if "consensus_second" in names else []),
            *(SCORE.text(score[row, m]) for m in voting),
        ]
        for row in order
    ]
    known = ["by chance", "chance", "p"] if "votes_by_chance" in names else []
    known += ["next"] if "consensus_second" in names else []
    header = ["consensus", "concept", "votes", *known, *metrics[voting]]
    return wrapped_table(header, rows, repeated=3)


def _chance(names: xr.Dataset, row: int, verdicts: np.ndarray) -> list[str]:
    """Return the votes that chance gives a concept, the verdict, and the p of its consensus."""
    if "votes_by_chance" not in names:
        return []
    votes, p = float(names["votes_by_chance"][row]), float(names["consensus_p"][row])
    return [VOTES.text(votes), str(verdicts[row]), SCORE.text(p)]


def _remarks(names: xr.Dataset) -> str:
    n_concepts, n_voting = names.sizes["concept"], int(names["n_voting"])
    consensus = int(np.count_nonzero(names["consensus_votes"].values))
    lines = [
        f"{consensus} of {counted(n_concepts, 'concept')} {verb(consensus, 'has', 'have')} a "
        "consensus of "
        f"{counted(n_voting, 'voting metric')} "
        f"({counted(int(names['n_consensus_names']), 'different name')}); "
        f"{int(names['n_silent'])} {verb(int(names['n_silent']), 'is', 'are')} silent."
    ]
    if note := tested_note(names):
        lines.insert(0, note)
    lines += chance_lines(names)
    if note := seen_note(names):
        lines.append(note)
    if consensus:
        lines += [
            f"All voting metrics agree on {share_text(float(names['unanimous_share']))} of them; "
            f"{votes_by_chance(names, is_unanimous(names))}.",
            f"More than half agree on {share_text(float(names['majority_share']))}; "
            f"{votes_by_chance(names, is_by_majority(names))}.",
        ]
        known, counts = np.unique(names["consensus"].values.astype(str), return_counts=True)
        often = [(known[i], counts[i]) for i in np.argsort(-counts, kind="stable") if known[i]]
        listed = ", ".join(f"{name} {count}" for name, count in often[:SHOWN_NAMES])
        lines.append(f"Most often: {listed}{', …' if len(often) > SHOWN_NAMES else ''}.")
    if "n_right_known" in names and int(names["n_right_known"]):
        lines.append(
            f"Of {int(names['n_right_known'])} whose label is known, the consensus names "
            f"{share_text(float(names['consensus_right_share']))} correctly."
        )
    return "\n".join(lines) + "\n"
