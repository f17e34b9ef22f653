"""What an error advises to install is what the distribution offers, and brings the module."""

from __future__ import annotations

import functools
import re
from importlib import metadata
from pathlib import Path

import pytest

from registry.suggest import _EXTRAS, RefusalError, needs_extras

ROOT = Path(__file__).parents[2]


def requirements(extra: str) -> set[str]:
    """Names of the distributions that an extra of factbook asks for."""
    wanted = [text for text in metadata.requires("factbook") or () if f'extra == "{extra}"' in text]
    return {re.match(r"[\w.-]+", text)[0].lower().replace("_", "-") for text in wanted}


@functools.cache
def distributions() -> dict[str, list[str]]:
    """The distributions that bring each module: looked for once, in all that is installed."""
    return dict(metadata.packages_distributions())


@pytest.mark.parametrize(
    ("extra", "module"), [(extra, name) for extra, names in _EXTRAS.items() for name in names]
)
def test_an_extra_brings_the_modules_that_it_is_advised_for(extra: str, module: str) -> None:
    owners = distributions()[module]
    assert {owner.lower().replace("_", "-") for owner in owners} & requirements(extra)


def test_the_error_names_the_command() -> None:
    advice = r"needs zennit: pip install 'factbook\[baselines\]'"
    with pytest.raises(RefusalError, match=advice), needs_extras():
        raise ModuleNotFoundError("No module named 'zennit.rules'", name="zennit.rules")


def test_what_no_extra_brings_is_not_explained_away() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere"), needs_extras():
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")


def test_every_advised_extra_exists() -> None:
    offered = set(metadata.metadata("factbook").get_all("Provides-Extra") or ())
    advised: set[str] = set()
    for package in ("registry", "fact", "evals", "dashboards"):
        for path in (ROOT / package).rglob("*.py"):
            advised |= set(re.findall(r"pip install 'factbook\[(\w+)\]'", path.read_text("utf-8")))
    assert advised > {"networks", "dashboard"}
    assert advised <= offered
