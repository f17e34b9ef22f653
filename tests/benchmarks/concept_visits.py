"""Visits to the page of concepts by one fresh server: seconds of each, and the most memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

STARTED = time.perf_counter()

from streamlit.testing.v1 import AppTest  # noqa: E402  # importing counts as waiting

from tests.benchmarks.memory import peak  # noqa: E402
from tests.dashboards.drawn import pages_alone  # noqa: E402


def page() -> None:
    """Show the page; all of it stands in the function, as AppTest wants it."""
    from dashboards.screens import concepts

    concepts.show()


def overview() -> None:
    """Show the first page."""
    from dashboards.screens import first

    first.show()


class Visits:
    """One reader, whose visits are timed."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}
        self.test = AppTest.from_function(page, default_timeout=300)

    def visit(self, name: str, run: Callable[[], object], since: float | None = None) -> None:
        began = time.perf_counter() if since is None else since
        run()
        self.taken[name] = time.perf_counter() - began
        assert not self.test.exception, [error.value for error in self.test.exception]

    def press(self, label: str) -> None:
        next(button for button in self.test.button if button.label == label).click().run()


def main() -> None:
    """Look around, as a reader would, and print what it took as JSON."""
    reader = Visits()
    test = reader.test
    reader.visit("concepts, the first page of all", test.run, STARTED)
    first = AppTest.from_function(overview, default_timeout=300)
    reader.visit("the first page, after it", first.run)
    assert not first.exception
    reader.visit("the first page again", first.run)
    reader.visit("the same again", test.run)
    reader.visit("a concept", lambda: test.text_input(key="concept").set_value("5000").run())
    reader.visit("the next", lambda: reader.press("Next"))
    reader.visit("a search", lambda: test.text_input(key="label").set_value("label 77").run())
    reader.visit("no search", lambda: test.text_input(key="label").set_value("").run())
    reader.visit("an order", lambda: test.selectbox(key="sort").set_value("name").run())
    reader.visit("a metric", lambda: test.selectbox(key="metric").set_value("metric 3").run())
    reader.visit("a page", lambda: test.number_input(key="page").set_value(300).run())
    other = Visits()
    other.test.query_params["section"] = "The whole model"
    other.visit("the whole model", other.test.run)
    print(json.dumps({"taken": reader.taken | other.taken, "memory": int(2**20 * peak())}))


if __name__ == "__main__":
    with pages_alone():
        main()
