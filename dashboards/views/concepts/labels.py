"""Names of concepts: the labels that explain each best, by every metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.parts import Table, file_name, frame_of
from dashboards.views.runs.advice import EXPECTED
from dashboards.views.runs.settings import behind, maker_of
from evals.naming.tables import tested_note
from evals.naming.verdicts import UNTESTED, chance_note, chance_of, judge_seconds, subject_of
from evals.scoring.seen_images import seen_note
from registry.catalog.access import Catalog
from registry.catalog.lineage import Lineage
from registry.columns import Column, ResultTable
from registry.wording import counted, verb

PREFERRED = ("correlation", "cosine", "auprc", "f1_score", "iou")
"""Metrics to name by at first: those that pass the checks of Oikarinen et al., best first."""

CONSENSUS = "consensus"
"""Names by the label that most voting metrics choose, in place of one metric."""

VERDICTS = ("passes", "undecided", "untested", "fails")
"""What sanity checks say of a metric, the most trustworthy first."""


def _others(own: xr.Dataset) -> list[str]:
    ranked = own.isel(rank=slice(1, None)).transpose("metric", ...)
    return [
        ", ".join(
            f"{label} {round(float(score), 2) + 0:.2f}" if np.isfinite(score) else str(label)
            for label, score in zip(*held, strict=True)
            if label
        )
        for held in zip(ranked["top_label"].values, ranked["top_score"].values, strict=True)
    ]


def _second(own: xr.Dataset) -> list[str] | None:
    if "second_name" not in own:
        return None
    names, scores = (own[f"second_{key}"].values for key in ("name", "score"))
    texts = [f"{n} {s:.2f}" if n else "" for n, s in zip(names, scores, strict=True)]
    if "second_p" not in own:
        return texts
    p = own["second_p"].values
    held = zip(texts, p, judge_seconds(own, p), strict=True)
    return [
        text and (f"{text} (p {p:.3f}, {told})" if np.isfinite(p) else f"{text} ({told})")
        for text, p, told in held
    ]


BY_EVERY_METRIC = "Best label by every metric"

LABELS = ResultTable(
    "metric",
    {
        "verdict": Column(header="sanity checks", help="whether the metric passes them"),
        "label": Column("", "", "best label on the half of the images that chose it", "name"),
        "score": Column(".3f", help="on the other half"),
        "by_chance": Column(
            ".3f",
            "by chance",
            "what the best label scores at most with permuted labels, at the intervals' confidence",
            "score_by_chance",
        ),
        "p": Column(".3f", "", "fraction of the permutations that give as much", "score_p"),
        "chance": Column(
            "",
            "against chance",
            "above chance by the smallest p of all concepts; undecided by its own p alone",
        ),
        "low": Column(".3f", "from", "lower end of the score's interval", "interval_low"),
        "high": Column(".3f", "to", "upper end of the score's interval", "interval_high"),
        "margin": Column("+.3f", "ahead by", "score minus that of the second-best label"),
        "others": Column("", "next labels", "with their scores on the other half", _others),
        "second": Column(
            "", "beside classes", "best label beside the name that is no class", _second
        ),
    },
)
NEXT_LABELS = ("top_label", "top_score", "chosen_score")
"""Variables that hold millions of strings and numbers where concepts are many."""

_OF_LABELS = (
    *("verdict", "name", "score", "interval_low", "interval_high", "margin"),
    *("top_label", "top_score", "score_by_chance", "score_p", "chance"),
    *("second_name", "second_score", "second_p"),
)


def doubts_of(verdict: str, chance: str) -> str:
    """Return what is told beside a name, of a metric's verdict and of chance with whose they are.

    A consensus says by itself what its verdict is: *4 of 5 agree, above chance*.
    """
    if verdict in VERDICTS:
        verdict, chance = f"metric {verdict}", chance and f"name {chance}"
    return ", ".join(filter(None, (verdict, chance)))


def namers_of(names: xr.Dataset) -> list[str]:
    """Return the consensus, where some metric votes, and the metrics of a names dataset."""
    metrics = [str(metric) for metric in names["metric"].values]
    has_consensus = CONSENSUS in names and int(names["n_voting"]) > 0
    return [CONSENSUS, *metrics] if has_consensus else metrics


def preferred_namer(namers: Sequence[str]) -> int:
    """Return the index of the namer to begin with; 0 where none is preferred."""
    known = list(namers)
    return next((known.index(name) for name in (CONSENSUS, *PREFERRED) if name in known), 0)


def best_names(names: xr.Dataset, namer: str) -> pd.DataFrame:
    """Return each concept's name by one metric, or by their consensus.

    Parameters
    ----------
    names : xr.Dataset
        ``name`` and ``score`` (concept, metric); ``consensus`` and ``consensus_votes`` (concept).
    namer : str
        One of its metrics, or `CONSENSUS`.

    Returns
    -------
    pd.DataFrame
        ``name`` ("" where there is none), ``score`` and ``verdict`` by concept: of the sanity
        tests on the metric. Of a consensus the score is the fraction of voting metrics that choose
        it, and the verdict says of how many. ``chance``: whether the name is above it.
    """
    if namer == CONSENSUS:
        named, n_voting = names["consensus"].values.astype(str), int(names["n_voting"])
        votes = names["consensus_votes"].values
        score = np.where(named == "", np.nan, votes / max(n_voting, 1))
        verdict = np.array([f"{one} of {n_voting} agree" for one in votes.tolist()], dtype=object)
    else:
        own = names[["name", "score", "verdict"]].sel(metric=namer)
        named, score = own["name"].values.astype(str), own["score"].values
        verdict = np.full(len(named), str(own["verdict"].values), dtype=object)
    index = pd.Index(names["concept"].values, name="concept")
    verdict = np.where(named == "", "", verdict)
    chance = chance_of(names, "" if namer == CONSENSUS else namer)
    held = {"name": named, "score": score, "verdict": verdict, "chance": chance}
    return pd.DataFrame(held, index=index)


def label_frame(names: xr.Dataset, concept: int) -> pd.DataFrame:
    """Return the best labels of one concept, a row per metric.

    Parameters
    ----------
    names : xr.Dataset
        ``name``, ``score``, ``interval_low``, ``interval_high``, ``margin`` (concept, metric) and
        ``top_label``, ``top_score`` (concept, metric, rank); ``verdict`` (metric).
    concept : int
        Its index.

    Returns
    -------
    pd.DataFrame
        ``metric``, ``verdict`` of the sanity checks on it, ``label``, ``score``, ``low``, ``high``,
        what chance gives, ``margin`` over the second-best label, and ``others``, the next labels
        with their scores.
        Empty for a concept without names. Metrics that pass come first.
    """
    if concept not in names.indexes["concept"]:
        absent = {"by_chance", "p", "chance"} if "chance" not in names else set()
        absent |= {"second"} if "second_name" not in names else set()
        return pd.DataFrame(columns=["metric", *(c for c in LABELS.columns if c not in absent)])
    known = [name for name in _OF_LABELS if name in names]
    frame = frame_of(LABELS, names[known].sel(concept=concept).load())
    if not int(names.get("n_class_labels", 1)):  # then it is one of the next labels
        frame = frame.drop(columns="second", errors="ignore")
    rank = {text: index for index, text in enumerate(VERDICTS)}
    return frame.sort_values(
        "verdict", key=lambda own: own.map(rank), kind="stable", ignore_index=True
    )


def label_table(
    cell: str, names: xr.Dataset, concept: int, every_name: xr.Dataset | None = None
) -> Table:
    """Return the best labels of one concept as a table; see :func:`label_frame`.

    Parameters
    ----------
    cell : str
        Of the concepts.
    names : xr.Dataset
        Of this concept, or of several.
    concept : int
        Its index.
    every_name : xr.Dataset, optional
        Of all concepts, which the note is about; by default ``names``, if these are all.
    """
    frame, note = (
        label_frame(names, concept),
        names_note(names if every_name is None else every_name),
    )
    if "chance" in frame and UNTESTED in set(frame["chance"]):
        note += f" This {subject_of(names)[0]} is among those that the budget left out."
    name = file_name(cell, "concept", concept, "labels")
    return Table(name, frame, BY_EVERY_METRIC, note, LABELS.columns)


def names_note(names: xr.Dataset) -> str:
    """Return on how many images names were chosen and scored, and what was tested, and how."""
    if "n_choosing" not in names or "n_scoring" not in names:
        return ""
    chosen, scored = int(names["n_choosing"]), int(names["n_scoring"])
    _, inputs = subject_of(names)
    note = f"Names were chosen on {counted(chosen, inputs)} and scored on {scored:,} others."
    note = f"{note} {seen_note(names)}".rstrip()
    verdicts = names["verdict"].values.astype(str).tolist()
    if set(verdicts) == {"untested"}:
        untested = "No sanity checks were given: the verdict on every metric is open."
        return f"{note} {untested} {chance_note(names)}"
    passed, tested = verdicts.count("passes"), len(verdicts) - verdicts.count("untested")
    text = (
        f"{note} {passed} of {counted(tested, 'tested metric')} {verb(passed, 'passes', 'pass')} "
        "the sanity checks; "
    )
    text += "these vote." if passed else "so none votes, and there is no consensus."
    return " ".join(filter(None, (text, tested_note(names), chance_note(names))))


# -- names for results that know concepts by index alone --------------------------------------

LABEL = "label"
"""Variable that :func:`label_concepts` adds."""


def with_names(
    lineage: Lineage, name: str, dataset: xr.Dataset, read: Callable[[str], xr.Dataset]
) -> xr.Dataset:
    """Return a dataset with the names of its concepts; as it is where none can be read.

    Parameters
    ----------
    lineage : Lineage
        What was made from what.
    name : str
        What the dataset is called there.
    dataset : xr.Dataset
        With a coordinate ``concept`` of numbers.
    read : callable
        From such a name to its dataset.
    """
    with suppress(*EXPECTED):  # numbers serve without; the page of names tells what is wrong
        if names := naming_cell(lineage, name):
            return label_concepts(dataset, read(names))
    return dataset


CALLED = "called"
"""Variable that :func:`with_called` adds."""

SETS = ("concepts", "activations", "next_tokens")


def called_by_readers(catalog: Catalog, run: str) -> dict[int, str]:
    """Return what readers call the concepts that a run measured, by concept.

    Nothing where notes cannot be read: what was measured is shown all the same.
    """
    with suppress(*EXPECTED):
        return {
            note.subject.concept: note.name
            for note in catalog.note_book.find().values()
            if note.subject.run == run and note.subject.concept is not None and note.name
        }
    return {}


def with_called(
    lineage: Lineage, name: str, dataset: xr.Dataset, called: Callable[[str], Mapping[int, str]]
) -> xr.Dataset:
    """Return a dataset with what readers call its concepts, where they call some of them.

    Parameters
    ----------
    lineage : Lineage
        What was made from what.
    name : str
        What the dataset is called there.
    dataset : xr.Dataset
        Of a result.
    called : callable
        From the run that made a set of concepts to what readers call them.
    """
    if "concept" not in dataset.indexes or dataset["concept"].dtype.kind != "i":
        return dataset
    found = next(filter(None, (behind(lineage, name, schema) for schema in SETS)), "")
    entry = lineage.entries.get(found)
    own = called(entry.run) if entry is not None and entry.run else {}
    names = [own.get(concept, "") for concept in dataset["concept"].values.tolist()]
    return dataset.assign({CALLED: ("concept", names)}) if any(names) else dataset


def naming_cell(lineage: Lineage, name: str) -> str:
    """Return what names the concepts that a dataset is about; "" if nothing does.

    Parameters
    ----------
    lineage : Lineage
        What was made from what.
    name : str
        It rests on one set of concepts; the first, where it rests on several.
    """
    concepts = behind(lineage, name, "concepts")
    names = maker_of(lineage, concepts, "names") if concepts else ""
    return names if lineage.is_made(names) else ""


def label_concepts(dataset: xr.Dataset, names: xr.Dataset) -> xr.Dataset:
    """Return a dataset with the best name of each of its concepts, "" where there is none.

    Parameters
    ----------
    dataset : xr.Dataset
        With a coordinate ``concept`` of numbers.
    names : xr.Dataset
        Of the schema ``names``, for the same concept model.
    """
    namers = namers_of(names)
    known = best_names(names, namers[preferred_namer(namers)])["name"]
    labels = known.reindex(dataset["concept"].values, fill_value="").to_numpy(dtype=str)
    return dataset.assign({LABEL: ("concept", labels)})
