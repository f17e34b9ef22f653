"""The pages of the site do what they say: their files are written, their commands run."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from PIL import Image

from evals.metrics import table
from registry.cli import main
from registry.declare import plugins

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"```\{code-block\} (\w+)\n(?::caption: (\S+)\n)?\n?(.*?)```", re.DOTALL)
SERVES = ("factbook dashboard",)
"""Commands that do not end by themselves; other tests start them."""


@dataclass(frozen=True)
class Page:
    """What a page of the site asks a reader to do."""

    files: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Page:
        page = cls()
        for language, caption, body in BLOCK.findall(path.read_text(encoding="utf-8")):
            if caption:
                page.files[caption] = body
            elif language == "console":
                lines = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
                page.commands.extend(line for line in lines if line not in SERVES)
            else:
                page.scripts.append(body)
        return page


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a reader is in; what is registered of its modules is forgotten."""
    monkeypatch.setenv("FACTBOOK_MONGO", "off")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.load_plugins()  # before: what is built in is not forgotten
    monkeypatch.setattr(plugins, "_IMPORTED", set(plugins._IMPORTED))
    with patch.dict(table._TABLE), patch.multiple(plugins, _KINDS=_copied(plugins._KINDS)):
        yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


def _copied(kinds: dict[str, dict[str, plugins.Kind]]) -> dict[str, dict[str, plugins.Kind]]:
    return {family: dict(known) for family, known in kinds.items()}


def typed(folder: Path, *command: str) -> str:
    """Type a command in a shell."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def called(words: list[str]) -> str:
    """Call the command in this process, which has imported what it needs; so are its tasks."""
    done = CliRunner().invoke(main, [*words, "--here"] if words[0] == "run" else words)
    assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
    return done.stdout


def printed_by(script: str) -> str:
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(script, "script.py", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def follow(page: Page, folder: Path) -> str:
    """Write the files of a page, type its commands, run its scripts; return what they print.

    What is typed as ``python …`` runs in a shell.
    """
    for name, text in page.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    printed = ""
    for command in page.commands:
        program, *words = shlex.split(command)
        if program == "python":
            printed += typed(folder, sys.executable, *words)
        else:
            assert program == "factbook"
            printed += called(words)
    return printed + "".join(map(printed_by, page.scripts))


def test_the_script_of_the_page_of_seeds_runs() -> None:
    [script] = Page.read(DOCS / "how-to" / "seeds.md").scripts
    assert "paired" in printed_by(script)


@pytest.mark.parametrize("name", ["metric", "dataset", "network", "stage"])
@pytest.mark.slow
def test_how_to_pages_can_be_followed(name: str, folder: Path) -> None:
    page = Page.read(DOCS / "how-to" / f"{name}.md")
    assert page.files
    assert page.commands
    printed = follow(page, folder)
    assert "completed" in printed


@pytest.mark.slow
def test_getting_started_leads_from_a_folder_of_images_to_names(folder: Path) -> None:
    draw_images(folder / "my-images")
    page = Page.read(DOCS / "getting-started.md")
    # fewer epochs and concepts than a reader would wait for; everything else is as the page has it
    declaration = page.files["experiments.toml"]
    for given, fewer in (("epochs = 8", "epochs = 1"), ("n_concepts = 64", "n_concepts = 16")):
        assert given in declaration
        declaration = declaration.replace(given, fewer)
    page.files["experiments.toml"] = declaration
    printed = follow(page, folder)
    assert "✓ names" in printed
    assert len(re.findall(r"^\d+\s+[\d.]+$", printed, re.MULTILINE)) == 5


@pytest.mark.slow
def test_the_page_of_beginnings_can_be_followed(folder: Path) -> None:
    draw_images(folder / "my-images")
    told = follow(Page.read(DOCS / "how-to" / "begin.md"), folder)
    assert "15 tasks to run" in told


def draw_images(folder: Path) -> None:
    """Write coloured squares, twenty of each of three classes, of several sizes and modes."""
    for label, colour in (
        ("red", (220, 30, 30)),
        ("green", (30, 200, 40)),
        ("blue", (40, 40, 220)),
    ):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            image = Image.new("RGBA", (60 + number, 90 - number), (250, 250, 250, 255))
            image.paste((*colour, 255), (number // 2, 10, 40 + number // 2, 45))
            image.save(folder / label / f"{number:03d}.png")
