"""Pages as axe-core finds them: no serious finding in what is ours, light and dark.

What is Streamlit's or Vega's own is listed here with the rule and a part of the selector, and in
``docs/accessibility.md`` in words, as issues for their authors would have it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

UPSTREAM = {
    # Streamlit 1.67: the label of a disabled box is hidden from axe's notion of a label, and pale
    ("color-contrast", r'span\[aria-hidden="true"\]'): "the label of a disabled box is pale",
    # Vega 6: the marks of a brush say that they are symbols, and have no name
    ("svg-img-alt", r"brush"): "marks of a brush have no name",
    ("svg-img-alt", r'mark container"[^>]*></g>'): "marks of which there are none have no name",
}
"""Findings in what is not ours: rule and what its selector has, to what it is."""

SERIOUS = ("serious", "critical")
ASK = """async rules => {
  const found = await axe.run(document, {
    resultTypes: ["violations"],
    ...(rules.length ? { runOnly: { type: "rule", values: rules } } : {}),
  })
  return found.violations.flatMap(one => one.nodes.map(node => ({
    rule: one.id, impact: node.impact, target: node.target.join(" "), html: node.html.slice(0, 200),
    why: node.failureSummary })))
}"""


@cache
def axe() -> str:
    """Return axe-core, as its package brings it along."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def findings(page: Page, *rules: str) -> list[dict[str, Any]]:
    """Return what axe-core calls serious or critical of a page, but for what is listed above.

    Parameters
    ----------
    page : Page
        Which has come to rest.
    *rules : str
        The rules to ask for; all by default.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe())
    found = page.evaluate(ASK, list(rules))
    return [one for one in found if one["impact"] in SERIOUS and not is_upstream(one)]


def is_upstream(finding: dict[str, Any]) -> bool:
    """Return whether a finding is listed as one of others."""
    place = f"{finding['target']} {finding['html']}"
    return any(finding["rule"] == rule and re.search(pattern, place) for rule, pattern in UPSTREAM)


INKS = ("rgb(0, 0, 0)", "rgb(255, 255, 255)", "rgb(28, 28, 30)", "rgb(74, 74, 80)")
"""Of words that stand on the cells of a heat map, or on a box."""

WORDS = """() => [...document.querySelectorAll("[data-testid=stVegaLiteChart] text")]
  .filter(one => one.textContent.trim() && getComputedStyle(one).opacity !== "0")
  .map(one => [getComputedStyle(one).fill, one.textContent])"""


def pale_words(page: Page) -> list[tuple[str, str]]:
    """Return words of charts, which axe-core leaves out, that WCAG 2.2, 1.4.3, finds too pale."""
    ground = page.locator("body, [data-testid=stApp]").last.evaluate(
        "e => getComputedStyle(e).backgroundColor"
    )
    words = {(colour, text) for colour, text in page.evaluate(WORDS) if colour not in INKS}
    return [(colour, text) for colour, text in words if contrast(colour, ground) < 4.5]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours of CSS, as ``rgb(14, 17, 23)``, in [1, 21]."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour of CSS."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def audit(page: Page, *rules: str) -> None:
    """Require that a page has no serious finding; in the dark only colours are others."""
    assert not pale_words(page)
    found = findings(page, *rules)
    assert not found, "\n".join(f"{one['rule']}: {one['target']}\n{one['why']}" for one in found)
