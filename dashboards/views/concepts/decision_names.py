"""What concepts of a decision are called, and which names only repeat what they explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import xarray as xr

from dashboards.views.concepts.labels import CONSENSUS, best_names
from dashboards.views.parts.text import number_text
from evals.naming.candidates import repeats_class
from evals.naming.verdicts import AT_CHANCE, IN_WORDS, UNDECIDED, second_texts

LONGEST_NAME = 34
VERDICTS = {
    "passes": "passes the sanity checks",
    "fails": "fails the sanity checks",
    "undecided": "neither passes nor fails the sanity checks",
    "untested": "is untested",
}
REPEATS = "repeats the class"
NEXT_LABEL = "its second label"


@dataclass(frozen=True)
class Naming:
    """What concepts are called, and how far that can be trusted.

    Attributes
    ----------
    name : mapping of int to str
        By concept; of a name that chance gives too, with that before it.
    verdict : mapping of int to str
        By whom it is named, with which score, and what the sanity checks say of them.
    second : mapping of int to str
        The best name beside it that is no class, with its score and verdict.
    beyond : mapping of int to str
        The same name alone, where it is not at chance.
    brief : mapping of int to str
        What stands for the name on axes.
    spoken : mapping of int to str
        What stands for the name in sentences.
    repeated : str
        The name that repeats the class, where one does.
    own : mapping of int to str
        What readers call them.
    notes : mapping of int to str
        What is to be known of a name in few words: that it repeats the class.
    label : mapping of int to str
        The labels of names that are marked.
    """

    name: Mapping[int, str]
    verdict: Mapping[int, str]
    second: Mapping[int, str] = field(default_factory=dict)
    beyond: Mapping[int, str] = field(default_factory=dict)
    brief: Mapping[int, str] = field(default_factory=dict)
    spoken: Mapping[int, str] = field(default_factory=dict)
    repeated: str = ""
    notes: Mapping[int, str] = field(default_factory=dict)
    own: Mapping[int, str] = field(default_factory=dict)
    label: Mapping[int, str] = field(default_factory=dict)

    def _repeating(self, name: str) -> list[int]:
        """Return the concepts whose names only repeat a class."""
        labels = {**self.name, **self.label}
        return [own for own, label in labels.items() if repeats_class(label, name)]

    def explaining(self, name: str) -> Naming:
        """Return the names beside which a second stands where they only repeat a class.

        Parameters
        ----------
        name : str
            Of the class that is explained.
        """
        repeating = self._repeating(name)
        following = {own: f"next: {self.second[own]}" for own in repeating if own in self.second}
        told = {
            own: f"{self.name[own]} ({'; '.join(filter(None, (REPEATS, following.get(own))))})"
            for own in repeating
        }
        brief = {own: self._name_on_axis(own) for own in repeating}
        spoken = {
            own: f"concept {own} ({following[own]})" if own in following else f"concept {own}"
            for own in repeating
        }
        return replace(
            self,
            name={**self.name, **told},
            brief=brief,
            spoken={**self.spoken, **spoken},
            repeated={**self.name, **self.label}[repeating[0]] if repeating else "",
            notes=dict.fromkeys(repeating, REPEATS),
        )

    def otherwise(self, name: str) -> Naming:
        """Return names in which the second stands for each that only repeats a class.

        One without a second that is above chance stays, and says that it repeats the class.

        Parameters
        ----------
        name : str
            Of the class that is explained.
        """
        repeating = self._repeating(name)
        shown = {own: self.beyond[own] for own in repeating if own in self.beyond}
        left = {own: self.name[own] for own in repeating if own not in shown}
        told = {own: f"{label} ({REPEATS})" for own, label in left.items()}
        return replace(
            self,
            name={**self.name, **shown, **told},
            brief=left,
            spoken={**self._spoken_but(shown), **{own: f"concept {own}" for own in left}},
            repeated={**self.name, **self.label}[repeating[0]] if repeating else "",
            notes={own: NEXT_LABEL if own in shown else REPEATS for own in repeating},
        )

    def _spoken_but(self, shown: Mapping[int, str]) -> dict[int, str]:
        return {own: told for own, told in self.spoken.items() if own not in shown}

    def _name_on_axis(self, concept: int) -> str:
        """Return a name with the second one, where that is not at chance, both cut to fit."""
        name, second = self.name[concept], self.beyond.get(concept, "")
        return f"{_cut(name, LONGEST_NAME // 2)}, then {second}" if second else name

    def title(self, concept: int) -> str:
        """Return the number of a concept with its name."""
        names = [self.name.get(concept, ""), self._quoted(concept)]
        told = " ".join(filter(None, names))
        return f"Concept {concept}: {told}" if told else f"Concept {concept}"

    def short(self, concept: int) -> str:
        """Return the same for an axis, cut where it is long."""
        name, own = self.brief.get(concept) or self.name.get(concept, ""), self._quoted(concept)
        if own:  # beside the name, and never in its place
            half = LONGEST_NAME // 2
            return f"{concept} · {' '.join(filter(None, (_cut(name, half), _cut(own, half))))}"
        return f"{concept} · {_cut(name, LONGEST_NAME)}" if name else f"concept {concept}"

    def called(self, concept: int) -> str:
        """Return the name with the number, for a sentence."""
        if concept in self.spoken:
            return self.spoken[concept]
        told = " ".join(filter(None, (self.name.get(concept, ""), self._quoted(concept))))
        return f"{told} ({concept})" if told else f"concept {concept}"

    def _quoted(self, concept: int) -> str:
        own = self.own.get(concept, "")
        return f"“{own}”" if own else ""


def _cut(text: str, longest: int) -> str:
    return f"{text[: longest - 1]}…" if len(text) > longest else text


NAMELESS = Naming({}, {})
MARKS = {AT_CHANCE: "at chance", UNDECIDED: "undecided"}
"""What stands before a name that is not above chance."""


def naming_of(names: xr.Dataset, namer: str) -> Naming:
    """Return what concepts are called by one metric, or by the consensus of metrics.

    Parameters
    ----------
    names : xr.Dataset
        Of schema ``names``.
    namer : str
        One of its metrics, or :data:`dashboards.views.concepts.labels.CONSENSUS`.
    """
    best = best_names(names, namer)
    if namer == CONSENSUS:
        voting = names["verdict"].values.astype(str)[names["votes"].values.astype(bool)]
        tested = len(voting) > 0 and (voting == "passes").all()
        which = "metrics that pass the sanity checks" if tested else "metrics (none sanity-tested)"
        of = f"of {max(int(names['n_voting']), 1)} {which}"
        verdicts = [f"chosen by {int(votes)} {of}" for votes in names["consensus_votes"].values]
    else:
        verdict = str(names["verdict"].sel(metric=namer).item())
        about = f"this metric {VERDICTS.get(verdict, verdict)}"
        verdicts = [f"{namer} {number_text(float(score))}; {about}" for score in best["score"]]
    told = zip(verdicts, best["chance"], strict=True)
    best["verdict"] = [f"{verdict}; {IN_WORDS.get(chance, chance)}" for verdict, chance in told]
    named = best[best["name"] != ""]
    label, found, chance = (
        {int(c): str(v) for c, v in named[key].items()} for key in ("name", "verdict", "chance")
    )
    marks = {concept: MARKS[of] for concept, of in chance.items() if of in MARKS}
    name = label | {concept: f"{mark}: {label[concept]}" for concept, mark in marks.items()}
    spoken = {concept: f"concept {concept} ({name[concept]})" for concept in marks}
    metric = "" if namer == CONSENSUS else namer
    second, beyond = (
        {
            concept: str(text)
            for concept, text in zip(names["concept"].values.tolist(), texts, strict=True)
            if text
        }
        for texts in (second_texts(names, metric), second_texts(names, metric, only_beyond=True))
    )
    marked = {concept: label[concept] for concept in marks}
    return Naming(name, found, second, beyond, spoken=spoken, label=marked)
