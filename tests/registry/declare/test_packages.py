"""Packages of other distributions that have our import names are noticed before they mislead."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def list_stages(folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, which is where Python looks first."""
    (folder / "experiments.toml").write_text("")
    code = f"import sys; sys.path[1:1] = {[str(path) for path in paths]}\n"
    code += "from registry.cli import main; main(['list'])"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("name", ["evals", "fact"])
@pytest.mark.slow
def test_a_folder_with_our_name_is_an_error_that_says_where_it_is(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    done = list_stages(tmp_path, ROOT)
    assert done.returncode == 1
    assert f"the package {name!r} is not factbook's: found in {tmp_path / name}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_distribution_that_wrote_over_ours_is_an_error(tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    project.mkdir()
    for name in ("registry", "fact", "evals", "dashboards"):
        shutil.copytree(ROOT / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert list_stages(project, site).returncode == 0
    (site / "evals" / "__init__.py").write_text("from .api import CompletionFn\n")
    done = list_stages(project, site)
    assert done.returncode == 1
    assert f"written over factbook's package 'evals' in {site / 'evals'}" in done.stderr
