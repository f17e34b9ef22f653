"""Under which terms data may be passed on: keys of every dataset, and of no fingerprint."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.cli import main
from registry.declare.declaration import read_declaration
from registry.declare.faults import DeclarationError
from registry.plan.project import open_project

FOLDER = """
[datasets.mine]
kind = "image-folder"
root = "."
{more}
"""


def permission(folder: Path, more: str, kind: str = FOLDER) -> tuple[bool, str, str]:
    (folder / "experiments.toml").write_text(kind.replace("{more}", more))
    given = read_declaration(folder).resources["mine"].permission
    return given.is_given, given.licence, given.reason


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", (False, "", "no licence declared")),
        ('licence = "cc-by-4.0"', (True, "CC-BY-4.0", "asks for attribution")),
        ('licence = "CC0-1.0"', (True, "CC0-1.0", "asks nothing")),
        (
            'licence = "CC-BY-ND-4.0"',
            (False, "CC-BY-ND-4.0", "not known to allow redistribution"),
        ),
        ("publish = true", (True, "", "declared with publish = true")),
        (
            'licence = "MIT"\npublish = false',
            (False, "MIT", "declared with publish = false"),
        ),
    ],
)
def test_a_licence_allows_or_the_declaration_says_so(
    tmp_path: Path, more: str, expected: tuple[bool, str, str]
) -> None:
    assert permission(tmp_path, more) == expected


def test_what_a_kind_is_known_to_be_under(tmp_path: Path) -> None:
    shapes = '[datasets.mine]\nkind = "shapes"\n{more}\n'
    assert permission(tmp_path, "", shapes)[:2] == (True, "Apache-2.0")
    assert permission(tmp_path, 'licence = "LicenseRef-secret"', shapes)[0] is False


def test_faults_are_told_where_they_stand(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as told:
        permission(tmp_path, 'licence = 3\npublish = "yes"\nlicense = "MIT"')
    text = str(told.value)
    assert "datasets.mine.licence" in text
    assert "datasets.mine.publish" in text
    assert "datasets.mine.license" in text


def test_no_fingerprint_has_them(tmp_path: Path) -> None:
    seen = set()
    for more in ("", 'licence = "MIT"\npublish = false'):
        (tmp_path / "experiments.toml").write_text(
            '[datasets.images]\nkind = "shapes"\n' + more + "\n"
            '[experiments.net]\nstage = "fact.train_classifier"\nneeds = { images = "images" }\n'
        )
        project = open_project(tmp_path)
        seen.add(project.fingerprints(project.graph, "net")["net"])
    assert len(seen) == 1


def test_every_kind_of_dataset_tells_of_them(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["kinds", "image-folder"]).stdout
    assert "# licence" in told
    assert "# publish" in told
    assert "licence" not in CliRunner().invoke(main, ["kinds", "bcos"]).stdout
