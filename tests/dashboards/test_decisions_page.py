"""The page of decisions as a server runs it: on a project whose stages really ran."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import streamlit as st
from click.testing import CliRunner
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboards.screens import decision_data
from dashboards.server.preparation import Preparation
from fact.networks.files import WEIGHTS_FILE
from registry.cli import main
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project, open_project
from registry.store.datasets import open_dataset
from registry.store.durable import read_json
from registry.store.manifest import MANIFEST, write_manifest
from tests.dashboards import fabricate
from tests.dashboards.numerals import badly_written_of
from tests.dashboards.test_pages import figures, frames, told
from tests.dashboards.test_uploads import animated_gif, colours, content, png_that_says

Open = Callable[..., AppTest]
HOSTILE = "<script>alert(1)</script>"
FOLDS = ("every-concept", "all-others", "strongest-images")
"""Keys of the titles that open what is behind a decision."""


def show_decisions() -> None:
    """Run the page by itself: pages that are functions cannot be switched to."""
    from dashboards.screens import decisions

    decisions.show()


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.chdir(tmp_path)

    def open_it(
        root: Path, address: Mapping[str, str] | None = None, unfolded: Sequence[str] = FOLDS
    ) -> AppTest:
        monkeypatch.setenv("FACTBOOK_PROJECT", str(root))
        test = AppTest.from_function(show_decisions, default_timeout=120)
        for fold in unfolded:
            test.session_state[fold] = True
        for key, value in (address or {}).items():
            test.query_params[key] = value
        return test.run()

    return open_it


def measured(root: Path, cell: str = "concepts") -> Any:
    with open_dataset(open_project(root).current(cell)) as dataset:
        return dataset.load()


def shares(page: AppTest) -> Any:
    return next(frame for frame in frames(page) if "share" in frame)


def all_concepts(page: AppTest) -> Any:
    return next(frame for frame in frames(page) if "presence" in frame)


def test_the_first_visit_explains_the_first_image(
    open_page: Open, explained_template: Path
) -> None:
    page = open_page(explained_template)
    assert not page.exception
    assert page.header[0].value == "Decisions"
    assert "arXiv 2510" in page.caption[0].value
    own = measured(explained_template).isel(image=0)
    classes = own["class"].values.astype(str)
    assert page.subheader[0].value == f"Why {classes[int(own['prediction'])]}?"
    assert "is right" in told(page) or "is wrong" in told(page)
    table = all_concepts(page).set_index("concept")["contribution"]
    expected = own["contribution"].to_series()
    np.testing.assert_allclose(table, expected[table.index], atol=1e-4)
    assert set(expected[expected.abs() > 1e-4].index) <= set(table.index)
    share = shares(page)
    parts = share[~share["name"].str.contains("all that")]["share"]
    assert round(parts.sum(), 7) == 100, "in percent"
    assert page.get("vega_lite_chart")
    assert page.query_params["cell"] == page.selectbox(key="cell").value
    assert badly_written_of(page) == []


def test_what_is_behind_a_decision_is_drawn_when_it_is_opened(
    open_page: Open, explained_template: Path
) -> None:
    page = open_page(explained_template, unfolded=())
    titles = [fold.label for fold in page.expander]
    assert len(titles) == len(FOLDS)
    assert not frames(page)
    charts = len(page.get("vega_lite_chart"))
    page.session_state["every-concept"] = True
    page = page.run()
    assert len(all_concepts(page))
    assert len(frames(page)) == 1, "the other one is closed"
    page.session_state["all-others"] = True
    page = page.run()
    assert len(shares(page))
    assert len(page.get("vega_lite_chart")) == charts + 1, "of all classes"
    page.session_state["every-concept"] = False
    page = next(button for button in page.button if button.label == "Next").click().run()
    assert len(frames(page)) == 1
    assert len(shares(page)), "what is open stays open"


def test_what_was_stored_is_shown_until_the_server_has_imported_what_explains(
    open_page: Open, explained_template: Path
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a network is loaded while readers wait for its import")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preparation, "is_busy", True)
        patch.setattr(Preparation, "wait", lambda *_: st.stop())
        patch.setattr(decision_data, "_explainer", load)
        page = open_page(explained_template)
        assert not page.exception
        assert page.subheader[0].value.startswith("Why ")
        assert len(shares(page))
        assert not page.slider
        predicted = page.subheader[0].value.removeprefix("Why ").removesuffix("?")
        other = next(name for name in page.selectbox(key="class").options[1:] if name != predicted)
        page = page.selectbox(key="class").set_value(other).run()
        assert not page.subheader, "no other question was stored"
    page = page.run()
    assert page.subheader[0].value.rstrip("?").endswith(other), "what was asked is not forgotten"
    assert page.slider
    assert not page.info


@pytest.mark.parametrize("cell", ["channels", "tokens"])
def test_channels_and_tokens_are_explained_too(
    open_page: Open, explained_template: Path, cell: str
) -> None:
    page = open_page(explained_template, {"cell": cell, "image": "test/00005"})
    assert not page.exception
    own = measured(explained_template, cell).sel(image="test/00005")
    table = all_concepts(page).set_index("concept")["contribution"]
    np.testing.assert_allclose(
        table, own["contribution"].to_series()[table.index], rtol=1e-3, atol=1e-3
    )
    assert ("positional embedding" in told(page)) == (cell == "tokens")
    assert "No pictures" in told(page)


def test_why_not_another_class(open_page: Open, explained_template: Path) -> None:
    address = {"image": "test/00003", "class": "warm dots", "against": "cool plain"}
    page = open_page(explained_template, address)
    assert not page.exception
    assert page.subheader[0].value == "Why warm dots, and not cool plain?"
    assert badly_written_of(page) == []
    both = all_concepts(page).set_index("concept")["contribution"]
    parts = []
    for name in ("warm dots", "cool plain"):
        page = open_page(explained_template, {"image": "test/00003", "class": name})
        parts.append(all_concepts(page).set_index("concept")["contribution"])
    np.testing.assert_allclose(both, (parts[0] - parts[1])[both.index], atol=1e-4)


def test_the_next_question_is_a_click(open_page: Open, explained_template: Path) -> None:
    page = open_page(explained_template, {"image": "test/00003"})
    [ask] = [button for button in page.button if button.label.startswith("Why not")]
    page = ask.click().run()
    assert not page.exception
    assert ", and not " in page.subheader[0].value
    assert page.selectbox(key="against").value
    assert page.query_params["against"] == page.selectbox(key="against").value


def test_the_question_stays_a_click_whatever_was_asked_and_whichever_image_comes(
    open_page: Open, explained_template: Path
) -> None:
    def asking(page: AppTest) -> list[Any]:
        return [button for button in page.button if (button.key or "").startswith("ask-")]

    page = open_page(explained_template, {"image": "test/00003"})
    assert len(asking(page)) == 3
    second = asking(page)[1]
    assert second.label == f"or {second.key.removeprefix('ask-')}?"
    page = second.click().run()
    other = page.selectbox(key="against").value
    assert page.subheader[0].value.endswith(f", and not {other}?")
    assert asking(page)[1].label == f"or {other}?"
    page = next(button for button in page.button if button.label == "Next").click().run()
    assert not page.exception
    first = asking(page)[0]
    page = first.click().run()
    assert page.subheader[0].value.endswith(f", and not {first.key.removeprefix('ask-')}?")
    page = asking(page)[0].click().run()
    assert page.selectbox(key="against").value is None, "a second click takes it back"


def test_concepts_are_scaled_by_sliders(open_page: Open, explained_template: Path) -> None:
    page = open_page(explained_template, {"image": "test/00003"})
    assert "Nothing is changed yet" in told(page)
    assert len(page.slider) == 4
    page = page.slider[0].set_value(0).run()
    assert not page.exception
    given = all_concepts(page).set_index("concept")["contribution"]
    name = page.slider[0].key.rpartition("-")[2]
    line = next(m.value for m in page.markdown if "Promised" in m.value).replace("\\", "")
    assert f"({-given[int(name)]:+.3g})" in line.partition("It becomes")[0]
    assert "The network " in line
    button = {button.label: button for button in page.button}
    page = button["Take all of these away"].click().run()
    assert [slider.value for slider in page.slider] == [0] * 4
    page = {button.label: button for button in page.button}["As it was"].click().run()
    assert "Nothing is changed yet" in told(page)
    assert "scaled" not in page.query_params
    page = page.slider[1].set_value(150).run()
    changed = page.slider[1].key.rpartition("-")[2]
    assert page.query_params["scaled"] in (f"{changed}:150", [f"{changed}:150"])
    page = next(button for button in page.button if button.label == "Next").click().run()
    assert [slider.value for slider in page.slider] == [100] * 4
    assert "scaled" not in page.query_params, "it was of another image"


def test_an_address_says_what_is_scaled(open_page: Open, explained_template: Path) -> None:
    own = measured(explained_template).sel(image="test/00003")["contribution"].values
    weakest, *_, strongest = np.argsort(np.abs(own))[own[np.argsort(np.abs(own))] != 0].tolist()
    scaled = f"{weakest}:0,{strongest}:150,999999:0,{strongest}:900,x:1,'"
    page = open_page(explained_template, {"image": "test/00003", "scaled": scaled})
    assert not page.exception
    values = {slider.key.rpartition("-")[2]: slider.value for slider in page.slider}
    assert len(values) == 5
    assert (values[str(weakest)], values[str(strongest)]) == (0, 150)
    assert "Promised" in told(page)


def test_a_class_against_itself_is_told(open_page: Open, explained_template: Path) -> None:
    page = open_page(explained_template, {"class": "warm dots", "against": "warm dots"})
    assert not page.exception
    assert "Both classes are the same" in page.info[0].value
    assert page.subheader[0].value.endswith("warm dots?")


def test_images_are_chosen_by_class_by_rightness_and_by_steps(
    open_page: Open, explained_template: Path
) -> None:
    own = measured(explained_template)
    label, prediction = own["label"].values, own["prediction"].values
    wrong = own["image"].values[label != prediction].astype(str).tolist()
    page = open_page(explained_template, {"from": "Wrong"})
    assert "is wrong" in told(page)
    assert page.text_input(key="image").placeholder == f"{wrong[0]} (1 of {len(wrong)})"
    step = {button.label: button for button in page.button}
    assert step["Previous"].disabled
    page = step["Next"].click().run()
    assert page.text_input(key="image").value == wrong[1]
    assert page.query_params["image"] == wrong[1]
    name = str(own["class"].values[label[label != prediction][0]])
    page = page.selectbox(key="label").set_value(name).run()
    assert page.text_input(key="image").value == ""
    page = page.segmented_control(key="from").set_value("Explained").run()
    stored = measured(explained_template, "decisions")
    of_class = stored["class"].values[stored["label"].values] == name
    explained = stored["image"].values[of_class].astype(str)
    assert page.text_input(key="image").placeholder.startswith(explained[0])
    random = next(button for button in page.button if button.label == "Random")
    page = random.click().run()
    assert page.text_input(key="image").value in explained


def test_an_address_may_name_the_decisions(open_page: Open, explained_template: Path) -> None:
    page = open_page(explained_template, {"cell": "decisions"})
    assert not page.exception
    assert page.selectbox(key="cell").value == "concepts"


@pytest.mark.parametrize(
    "address",
    [
        {"cell": "../..", "image": "../../etc/passwd"},
        {"image": HOSTILE, "class": HOSTILE, "against": '{"$gt": ""}'},
        {"image": '{"$gt": ""}', "from": "$where", "label": "nobody"},
        {"image": "x" * 5000, "metric": "nowhere"},
        {"cell": "classifier", "decisions": "names"},
        {"image": "test/00003", "class": "999", "against": "-1"},
    ],
)
def test_hostile_addresses_break_nothing(
    open_page: Open, explained_template: Path, address: dict[str, str]
) -> None:
    page = open_page(explained_template, address)
    assert not page.exception
    assert page.header[0].value == "Decisions"
    assert page.selectbox(key="cell").value == "concepts"
    assert "<script>" not in told(page)


def test_an_image_that_is_misspelt_is_told(open_page: Open, explained_template: Path) -> None:
    page = open_page(explained_template, {"image": "test/0003"})
    assert not page.exception
    assert "test/0003" in page.info[0].value.replace("\\", "")
    assert "did you mean" in page.info[0].value


# -- uploads ----------------------------------------------------------------------------------


def upload(page: AppTest, given: bytes, name: str = "mine.png") -> AppTest:
    kind = "image/png" if name.endswith("png") else "image/jpeg"
    return page.file_uploader(key="upload").set_value((name, given, kind)).run()


def test_an_uploaded_picture_is_explained(open_page: Open, explained_template: Path) -> None:
    page = open_page(explained_template, {"from": "Upload"})
    assert "Choose a PNG, JPEG or WebP" in page.info[0].value
    photo = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    before = {path for path in explained_template.rglob("*") if path.is_file()}
    page = upload(page, content(Image.fromarray(photo), "JPEG"), f"{HOSTILE}.jpg")
    assert not page.exception
    assert page.subheader[0].value.startswith("Why ")
    assert "is right" not in told(page)
    assert "is wrong" not in told(page)
    assert "<script>" not in told(page)
    assert "as the network sees it" in figures(page)
    assert "<script" not in figures(page)
    assert {path for path in explained_template.rglob("*") if path.is_file()} == before
    page = page.selectbox(key="against").set_value("warm dots").run()
    assert not page.exception
    assert page.subheader[0].value.endswith("and not warm dots?") or page.info


def test_pictures_of_every_kind_are_explained(open_page: Open, explained_template: Path) -> None:
    kinds = {
        "grey": Image.new("L", (28, 28), 90),
        "transparent": Image.new("RGBA", (30, 20), (200, 0, 0, 128)),
        "sixteen bits": Image.fromarray(np.full((20, 20), 40_000, np.uint16)),
        "palette": Image.new("P", (9, 9)),
        "one pixel": Image.new("RGB", (1, 1)),
    }
    page = open_page(explained_template, {"from": "Upload"})
    for kind, picture in kinds.items():
        page = upload(page, content(picture), f"{kind}.png")
        assert not page.exception, kind
        assert not page.error, kind
        assert page.subheader[0].value, kind
        assert f"{kind}.png" in figures(page)


def test_files_that_are_no_picture_are_told(open_page: Open, explained_template: Path) -> None:
    kinds = {
        "text": (b"no picture at all", "not an image in PNG or JPEG or WEBP"),
        "truncated": (content(Image.fromarray(colours(60, 60)))[:3000], "cannot be decoded"),
        "bomb": (png_that_says(20_000, 20_000), "pixels"),
        "gif": (animated_gif(), "not an image"),
        "empty": (b"", "an empty file"),
    }
    page = open_page(explained_template, {"from": "Upload"})
    for kind, (given, reason) in kinds.items():
        page = upload(page, given, f"{kind}.png")
        assert not page.exception, kind
        assert rf"{kind}\.png" in page.error[0].value
        assert reason in page.error[0].value.replace("\\", ""), kind
        assert not page.subheader, kind


# -- what is not there ------------------------------------------------------------------------


def test_without_weights_what_was_stored_is_shown(open_page: Open, explained_copy: Project) -> None:
    for weights in explained_copy.root.rglob(WEIGHTS_FILE):
        weights.unlink()
    page = open_page(explained_copy.root)
    assert not page.exception
    assert "Cannot explain new images" in page.info[0].value
    assert "not all that these concepts were made from is" in page.info[0].value.replace("\\", "")
    with open_dataset(explained_copy.current("decisions")) as decisions:
        images = decisions["image"].values.astype(str).tolist()
        first = decisions.isel(image=0).load()
    assert page.text_input(key="image").placeholder == f"{images[0]} (1 of {len(images)})"
    share = shares(page)
    shown = share["concept"][share["concept"] != ""].astype(int).tolist()
    assert shown == [concept for concept in first["top_concept"].values.tolist() if concept >= 0]
    assert share["contribution"].iloc[-1] == pytest.approx(float(first["logit"]))
    assert "Upload" not in page.segmented_control(key="from").options
    page = next(b for b in page.button if b.label == "Next").click().run()
    assert page.text_input(key="image").value == images[1]
    assert page.subheader[0].value


def test_without_the_images_what_was_stored_is_shown_and_uploads_are_explained(
    open_page: Open, explained_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError("no folder /data/shapes")

    monkeypatch.setattr("fact.kinds.Shapes.identity", gone)
    page = open_page(explained_copy.root, {"from": "Explained"})
    assert not page.exception
    assert len(page.warning) == 1
    assert "images are not on this machine" in page.warning[0].value
    assert shares(page)["concept"].tolist()[0]
    page = page.segmented_control(key="from").set_value("Upload").run()
    page = upload(page, content(Image.new("RGB", (40, 40), "red")))
    assert not page.exception
    assert page.subheader[0].value.startswith("Why ")


def test_of_a_class_that_is_not_predicted_the_prediction_is_asked(
    open_page: Open, explained_template: Path
) -> None:
    first = open_page(explained_template)
    predicted = first.subheader[0].value.removeprefix("Why ").removesuffix("?")
    other = next(c for c in first.selectbox(key="class").options[1:] if c != predicted)
    page = open_page(explained_template, {"class": other})
    [further] = [button for button in page.button if button.label.startswith("Why ")]
    assert further.label == f"Why {predicted}, and not {other}?"
    further.click().run()
    assert page.subheader[0].value == further.label
    assert page.selectbox(key="against").value == other
    assert page.selectbox(key="class").value == page.selectbox(key="class").options[0]


def test_other_images_begin_without_a_question_left(
    open_page: Open, explained_template: Path
) -> None:
    page = open_page(explained_template)
    next(button for button in page.button if button.label.startswith("Why not")).click().run()
    assert ", and not " in page.subheader[0].value
    assert page.selectbox(key="against").value
    page.segmented_control(key="from").set_value("Explained").run()
    assert page.selectbox(key="against").value is None
    assert ", and not " not in page.subheader[0].value


def test_without_the_concepts_what_was_stored_is_shown(
    open_page: Open, explained_copy: Project
) -> None:
    shutil.rmtree(explained_copy.current("concepts"))
    page = open_page(explained_copy.root, {"cell": "concepts"})
    assert not page.exception
    assert "factbook run concepts" in [code.value for code in page.code]
    assert page.subheader[0].value
    assert shares(page)["concept"].tolist()[0]


def test_without_anything_it_is_told_what_to_run(open_page: Open, explained_copy: Project) -> None:
    for cell in ("concepts", "decisions"):
        shutil.rmtree(explained_copy.root / "artifacts" / cell)
    page = open_page(explained_copy.root, {"cell": "concepts"})
    assert not page.exception
    assert "factbook run concepts" in [code.value for code in page.code]
    assert any("explained in advance" in info.value for info in page.info)


@pytest.mark.parametrize("is_stored", [False, True])
def test_without_the_sae_it_is_named(
    open_page: Open, explained_copy: Project, is_stored: bool
) -> None:
    made_from = explained_copy.cell("concepts").needs["sae"]
    shutil.rmtree(explained_copy.current(made_from))
    if not is_stored:
        shutil.rmtree(explained_copy.root / "artifacts" / "decisions")
    page = open_page(explained_copy.root, {"cell": "concepts"})
    assert not page.exception
    words = told(page).replace("\\", "")
    assert f"the sae '{made_from}' that it was made from is gone, or damaged" in words
    assert bool(page.subheader) == is_stored, "stored decisions are shown"
    assert ("No decisions were explained in advance" in words) != is_stored


def test_a_project_without_concepts_is_told_what_to_declare(
    open_page: Open, tmp_path: Path
) -> None:
    project = fabricate.declare(tmp_path / "empty", "[project]\n")
    page = open_page(project.root)
    assert not page.exception
    assert 'stage = "fact.measure_concepts"' in page.code[0].value


def test_damaged_decisions_leave_the_rest(open_page: Open, explained_copy: Project) -> None:
    folder = explained_copy.current("decisions")
    (folder / "dataset.nc").write_bytes(b"damaged" * 1000)
    manifest = folder / MANIFEST
    assert manifest.exists()
    page = open_page(explained_copy.root)
    assert not page.exception
    assert page.subheader[0].value.startswith("Why ")


@pytest.mark.parametrize("version", [0, 99, [1, 2]])
def test_decisions_of_another_version_leave_the_rest(
    open_page: Open, explained_copy: Project, version: Any
) -> None:
    folder = explained_copy.current("decisions")
    with h5py.File(folder / "dataset.nc", "r+") as file:
        file.attrs["schema_version"] = version
    write_manifest(folder, read_json(folder / MANIFEST) or {})
    page = open_page(explained_copy.root)
    assert not page.exception
    assert page.subheader[0].value.startswith("Why ")
    assert "another version" in told(page)
    assert "factbook run decisions" in told(page)


def test_a_hostile_name_of_a_concept_is_shown_as_it_is(
    open_page: Open, explained_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboards.views.concepts.decision_names import Naming

    named = Naming(dict.fromkeys(range(24), HOSTILE), dict.fromkeys(range(24), "[x](y)"))
    monkeypatch.setattr("dashboards.screens.decision_data.naming_of", lambda *_: named)
    page = open_page(explained_template)
    assert not page.exception
    assert "<script>" not in told(page)
    assert f"· {escape(HOSTILE)}" in figures(page)
    assert "<script" not in figures(page)
    assert any("script" in slider.label for slider in page.slider)
    assert "[x](y)" not in told(page)


@pytest.fixture(autouse=True)
def _nothing_kept_of_another_test() -> None:
    st.cache_data.clear()


def test_a_report_tells_of_every_stored_decision(
    explained_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.chdir(explained_template)
    out = tmp_path / "decisions.html"
    done = CliRunner().invoke(main, ["report", "decisions", "--out", str(out)])
    assert done.exit_code == 0, done.output
    html = out.read_text()
    stored = measured(explained_template, "decisions")
    for image in stored["image"].values.astype(str):
        assert f"{image}: Why " in html or f"{image}: What speaks for" in html
    assert html.count("<svg") == stored.sizes["image"]
    assert html.count(">100\N{NO-BREAK SPACE}%<") == int((stored["share"].isel(rank=0) > 0).sum())


def test_the_address_names_the_set_that_is_shown(open_page: Open, explained_template: Path) -> None:
    page = open_page(explained_template, {"cell": "channels"})
    assert page.query_params["cell"] == page.selectbox(key="cell").value == "channels"
