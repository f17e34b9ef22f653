"""All kinds of results: a page each, and a section of a report.

A new kind needs a module that declares its :class:`dashboards.views.results.view.ResultView`, and
a row here.
"""

from __future__ import annotations

from dashboards.views.results import (
    consistency,
    identification,
    intervention,
    localisation,
    names,
    sanity,
    scores,
    stability,
)

RESULTS = (
    sanity.VIEW,
    identification.VIEW,
    consistency.VIEW,
    intervention.VIEW,
    stability.VIEW,
    localisation.VIEW,
    scores.VIEW,
    names.VIEW,
)
"""In the order of the menu."""
