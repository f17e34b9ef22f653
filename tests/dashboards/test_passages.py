"""Positions of texts in place of images: which are shown, how the token is marked, where."""

from __future__ import annotations

import re
from html import escape, unescape

import numpy as np
import pandas as pd
import pytest

from dashboards.report import render
from dashboards.screens import datasets
from dashboards.screens.parts import passage_html
from dashboards.views.concepts import passages as view
from dashboards.views.concepts.concepts import concepts_frame
from dashboards.views.concepts.examples import ACROSS
from dashboards.views.concepts.neurons import MARK
from dashboards.views.parts.parts import SIDE, Passage, Passages
from dashboards.views.parts.text import number_text, visible
from dashboards.views.sections import sections_of
from registry.catalog.access import open_catalog
from registry.plan.project import Project
from tests.dashboards import fabricate_tokens
from tests.dashboards.fabricate import HOSTILE
from tests.dashboards.fabricate_tokens import NEURONS, SEQUENCES
from tests.dashboards.test_pages import Open, app_test, frames, open_page, told

__all__ = ["app_test", "open_page"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return fabricate_tokens.made(tmp_path_factory.mktemp("tokens") / "project")


@pytest.mark.parametrize("around", [1, 3, 24])
def test_texts_around_a_position_are_those_of_its_sequence(around: int) -> None:
    dataset = fabricate_tokens.next_tokens()
    for neuron in range(len(NEURONS)):
        found = view.passages_of(dataset, neuron, around=around)
        rows = [row for row in dataset["top_input"].values[neuron].tolist() if row >= 0]
        assert len(found) == len(rows)
        for passage, row in zip(found, rows, strict=True):
            own = SEQUENCES[dataset["sequence"].values[row]]
            at = int(dataset["position"].values[row])
            before, after = own[max(0, at - around) : at], own[at + 2 : at + 1 + around]
            assert passage.before.lstrip("…") == visible("".join(before))
            assert passage.before.startswith("…") == (at > around)
            assert (passage.token, passage.following) == (visible(own[at]), visible(own[at + 1]))
            assert passage.after.removesuffix("…") == visible("".join(after))
            came = own[at + 1] == NEURONS[neuron]
            assert passage.caption.endswith(
                "and it comes next" if came else "another one comes next"
            )
            assert passage.caption.startswith(dataset["input"].values[row])
    assert view.passages_of(dataset, 99) == []


def test_the_page_shows_texts_with_the_token_marked(open_page: Open, tokens: Project) -> None:
    page = open_page(tokens, "concepts", {"concept": "1"})
    assert not page.exception
    assert 'Neuron 1: next token " a"' in told(page).replace("\\", "")
    shown = " ".join(one.proto.body for one in page.get("html"))
    first = view.passages_of(fabricate_tokens.next_tokens(), 1)[0]
    assert f">{first.token}</mark><u>{first.following}</u>" in unescape(shown)
    assert HOSTILE not in shown
    assert HOSTILE in unescape(shown)
    table = frames(page)[0]
    assert table["token"].tolist() == [f'"{token}"' for token in NEURONS]
    for neuron, line in enumerate(table["passage"]):
        strongest = view.passages_of(fabricate_tokens.next_tokens(), neuron)[0]
        assert f"⟦{strongest.token}⟧{strongest.following}" in line
    assert table["count"].tolist() == [4, 2, 1]


def test_long_texts_are_cut_between_words_until_they_are_opened() -> None:
    words = " word" * 40
    long = Passage(f"…{words}", " the", " cat", f"{words}…", "test/0: probability 0.5")
    cut = long.cut()
    assert (cut.token, cut.following, cut.caption) == (long.token, long.following, long.caption)
    for side, whole in ((cut.before, long.before), (cut.after, long.after)):
        assert side.strip("…") in whole
        assert len(side) <= SIDE + 1
        assert set(side.strip("…").split()) == {"word"}, "no word is broken"
    assert cut.before.startswith("…")
    assert cut.after.endswith("…")
    assert cut.cut() == cut
    short = Passage("a " * 20, " the", " cat", "")
    assert short.cut() == short
    assert len(Passage("", "x", "y", "z" * 200).cut().after) == SIDE + 1, "one word may be"


def test_a_cut_text_opens_to_the_whole_and_a_short_one_has_nothing_to_open(
    open_page: Open, tokens: Project
) -> None:
    long = Passage("", "<b>", " cat", " <i>" * 60)
    shown = passage_html(long)
    assert shown.count("<details>") == shown.count("<summary>") == 1
    assert shown.endswith(f"{escape(long.after)}</details>")
    assert "<i>" not in shown
    page = open_page(tokens, "concepts", {"concept": "1"})
    texts = " ".join(one.proto.body for one in page.get("html"))
    assert texts.count('class="fb-passage"') == 4
    assert "<details>" not in texts


def test_channels_of_a_layer_have_the_same_page(open_page: Open, tokens: Project) -> None:
    page = open_page(tokens, "concepts", {"cell": "units", "concept": "1"})
    assert not page.exception
    text = told(page).replace("\\", "")
    given = fabricate_tokens.channels()
    assert f"activation {number_text(float(given['top_activation'][1, 0]))} at most" in text
    assert "Neuron 1\n" in text
    assert "Channels of a layer, of units: gpt2, transformer.h.0.mlp.act" in text
    assert "next token" not in text
    shown = unescape(" ".join(one.proto.body for one in page.get("html")))
    first = view.passages_of(given, 1)[0]
    assert f">{first.token}</mark>" in shown
    assert ": activation " in first.caption
    assert "probability" not in shown
    table = frames(page)[0]
    assert {"token", "count"}.isdisjoint(table)
    largest = table.set_index("concept")["largest_activation"].sort_index()
    np.testing.assert_allclose(largest, given["activation"].max("input"))
    drawn = view.strongest_passages(given, view.neurons_frame(given))
    assert drawn.passages[0].caption.startswith("neuron 0, test/")
    assert "largest activation" in drawn.note


@pytest.mark.parametrize("cell", ["tokens", "units"])
def test_neurons_of_texts_have_what_concepts_have(
    open_page: Open, tokens: Project, cell: str
) -> None:
    what = {"tokens": "probability", "units": "activation"}[cell]
    address = {"cell": cell, "concept": "1", "side": ACROSS, "with": "2"}
    page = open_page(tokens, "concepts", address)
    assert not page.exception
    text = told(page).replace("\\", "")
    assert f"Strongest quarter: {what} " in text
    for part in ("Over 14 positions", "see positions of it", "Strong at the same positions"):
        assert part in text
    assert re.search(r"Both: \d positions?", text)
    shown = unescape(" ".join(one.proto.body for one in page.get("html")))
    given = view.with_presence(fabricate_tokens.made_of(cell))["presence"].values[:, 1]
    for row in np.argsort(-given)[:4]:
        passage = view.passage_at(fabricate_tokens.made_of(cell), int(row), given[row], 1)
        assert passage.caption in shown
    page.session_state["missing-evidence"] = True
    assert "by_sequence = true" in told(page.run()), "the lines that would name them"


def test_the_first_page_has_the_strongest_neurons_with_their_names(tokens: Project) -> None:
    given = fabricate_tokens.next_tokens()
    own = view.as_concepts(given)
    best = pd.DataFrame({"name": ["x", "", "y"], "score": 1.0, "verdict": "2 of 2 agree"})
    frame = concepts_frame(own, best.assign(chance="at chance"))
    drawn = view.strongest_passages(given, frame, link=lambda one: f"concepts?concept={one}")
    first = drawn.passages[0]
    assert first.title == 'x · 2 of 2 agree, at chance · neuron 0: next token " the"'
    assert first.link == "concepts?concept=0"
    catalog = open_catalog(tokens.root, "off")
    made = datasets.made_by(catalog, catalog.lineage(), "tokens")
    wall = datasets.wall(made, None, None, "", "concepts?cell=tokens", 2)
    assert isinstance(wall, Passages)
    strongest = np.argsort(-own[MARK].values)[:2].tolist()
    heads = [int(one.title.split("neuron ")[1].split(":")[0]) for one in wall.passages]
    assert heads == strongest
    assert wall.passages[0].link == f"concepts?cell=tokens&concept={strongest[0]}"


def test_all_neurons_together_are_texts_too(open_page: Open, tokens: Project) -> None:
    page = open_page(tokens, "concepts", {"section": "The whole model"})
    assert not page.exception
    assert "strongest position of each of the first 3 neurons" in told(page)
    assert "No gallery dataset" not in told(page)


def test_a_report_has_the_texts(tokens: Project) -> None:
    catalog = open_catalog(tokens.root, "off")
    html = render("tokens", "", sections_of(catalog, ["tokens"]))
    first = view.passages_of(fabricate_tokens.next_tokens(), 0)[0]
    assert f"<mark>{first.token}</mark>" in html
    assert HOSTILE not in html
    assert "positions" in html


def test_what_breaks_a_line_is_made_visible() -> None:
    assert visible("a\nb\tc\r") == "a↵b⇥c"


def test_names_of_variables_do_not_clash_with_names_of_concepts() -> None:
    own = view.as_concepts(fabricate_tokens.next_tokens())
    assert set(own.dims) == {"concept"}
    assert own["token"].values.tolist() == [f'"{token}"' for token in NEURONS]
    np.testing.assert_array_equal(own["token_id"].values, [5, 6, 7])
    assert view.neurons_frame(fabricate_tokens.next_tokens())["count"].tolist() == [4, 2, 1]


def test_what_a_label_of_texts_could_reach_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    made = datasets.Made("tokens", "fact.collect_next_tokens", "tokens")
    kept = fabricate_tokens.next_tokens().drop_dims("input")
    monkeypatch.setattr(datasets, "statistics", lambda made: kept)
    assert datasets.reach_of.__wrapped__(made, made, made, '" the"', 1.0) is None
