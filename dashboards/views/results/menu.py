"""Which kinds of results there are, as the menu has them: known before what shows them is imported.

A new kind needs a row here, and a module of that name that declares its
:class:`dashboards.views.results.view.ResultView`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dashboards.views.results.view import ResultView

METRICS, CONCEPTS = "Metrics", "More on concepts"
"""Groups of the menu."""


class Entry(NamedTuple):
    """A page of the menu.

    Attributes
    ----------
    schema : str
        Of the datasets that it shows.
    title, path : str
        What it is called, and where it is in the address.
    group : str
        Under which the menu has it.
    """

    schema: str
    title: str
    path: str
    group: str


MENU: Mapping[str, Entry] = {
    "sanity": Entry("sanity", "Sanity checks", "sanity", METRICS),
    "identification": Entry("identification", "Known neurons", "known-neurons", METRICS),
    "comparison": Entry("comparison", "Published tables", "published", METRICS),
    "consistency": Entry("consistency", "Consistency", "consistency", CONCEPTS),
    "fidelity": Entry("fidelity", "Fidelity", "fidelity", CONCEPTS),
    "intervention": Entry("intervention", "Intervention", "intervention", CONCEPTS),
    "stability": Entry("matching", "Stability", "stability", CONCEPTS),
    "localisation": Entry("localisation", "Localisation", "localisation", CONCEPTS),
    "scores": Entry("scores", "Scores", "scores", METRICS),
    "names": Entry("names", "Names", "names", CONCEPTS),
}
"""The pages in their order, by the module that shows each."""


def view_of(module: str) -> ResultView:
    """Return what shows a kind of result, a key of `MENU`."""
    shown: ResultView = import_module(f"dashboards.views.results.{module}").VIEW
    return shown
