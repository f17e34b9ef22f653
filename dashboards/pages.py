"""The pages of the dashboard, one of which an address names; ``dashboards/app.py`` serves them.

The project is that of ``$FACTBOOK_PROJECT``, else of the current folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path

import streamlit as st
from streamlit import runtime
from streamlit.file_util import get_static_dir

from dashboards.screens import frame
from dashboards.server.documents import files_of
from dashboards.server.preparation import PREPARATION
from dashboards.views.parts import pictures
from dashboards.views.results.menu import MENU, view_of

# Help lines in nearly full colour, what is chosen in a darker red, code in darker colours, values
# of trees and words of charts in that of the text, a ring around links that have the focus:
# Streamlit's own are too faint for WCAG 2.2, 1.4.3 and 2.4.7. And no empty hand's breadth above
# each title, and at 900 pixels as narrow a margin as lets six pictures of 120 stand in a row beside
# a scrollbar. A comment, since Streamlit would show a docstring on the page.
READABLE = """<style>
:is([data-testid=stApp], [data-testid=stPopoverBody]) [data-testid=stCaptionContainer] {
  opacity: 0.85; color: inherit; }
[data-testid=stMainBlockContainer] { padding-top: 4rem; padding-bottom: 3rem; }
[data-testid=stElementContainer]:has(> [data-testid=stHtml]):not(:has(p, figure, a, mark)) {
  display: none; }
[data-testid=stApp] :is(a, [role=option], [role=tab], summary):focus-visible {
  outline: 3px solid #0072b2 !important; outline-offset: 2px; border-radius: 4px; }
button[data-selected=true] [data-testid=stMarkdownContainer] {
  color: light-dark(#a3202f, #ff9aa3); }
[data-testid=stApp] [data-testid=stSliderThumbValue] :is(p, div) {
  color: light-dark(#a3202f, #ff9aa3); }
[data-testid=stCode] .token:is(.string, .char, .attr-value, .inserted) {
  color: light-dark(#00692a, #3dd56d) !important; }
[data-testid=stCode] .token:is(.keyword, .tag, .function, .class-name, .selector) {
  color: light-dark(#0054a3, #60b4ff) !important; }
[data-testid=stCode] .token:is(.property, .parameter, .variable) {
  color: light-dark(#0054a3, #60b4ff) !important; }
[data-testid=stJson] .variable-value > div {
  color: inherit !important; background-color: transparent !important; }
[data-testid=stCode] .token:is(.number, .regex) {
  color: light-dark(#00645a, #4fd8c4) !important; }
[data-testid=stCode] .token:is(.operator, .entity, .decorator, .atrule) {
  color: light-dark(#8a4b00, #ffbd45) !important; }
[data-testid=stCode] .token:is(.deleted, .important) {
  color: light-dark(#a3202f, #ff9aa3) !important; }
[data-testid=stCode] .token:is(.comment, .unchanged) {
  color: light-dark(#5b5c66, #a3a8b4) !important; }
[data-testid=stVegaLiteChart] :is([class*=role-axis], [class*=role-legend]) text,
[data-testid=stVegaLiteChart] text[fill="#707070"] { fill: currentColor; }
[class*=st-key-wide-figure] { overflow-x: auto; }
.st-key-evidence p { font-size: 0.9rem; line-height: 1.4; }
@media (min-width: 640px) and (max-width: 1000px) {
  [data-testid=stMainBlockContainer] { padding-left: 4rem; padding-right: 4rem; } }
@media (max-width: 1200px) {
  [class*=st-key-wide-columns] > * > [data-testid=stHorizontalBlock] > [data-testid=stColumn],
  [class*=st-key-wide-columns] > [data-testid=stHorizontalBlock] > [data-testid=stColumn] {
    min-width: 100%; }
}
@media (min-width: 700px) and (max-width: 1200px) { /* what is explained beside its answer */
  .st-key-subject {
    display: grid; grid-template-columns: minmax(0, 1fr) 264px; row-gap: 0.5rem;
    align-content: start; }
  .st-key-subject > :last-child { grid-column: 2; grid-row: 1 / span 4; }
}
</style>"""

# A page is one step of the browser's history. Streamlit adds a step whenever a page writes into its
# own address, and then Back leads nowhere.
ONE_STEP = """<script>
if (!history.stepsByPage) {
  const push = history.pushState.bind(history);
  history.pushState = (state, title, url) =>
    new URL(url, location.href).pathname === location.pathname
      ? history.replaceState(state, title, url) : push(state, title, url);
  history.stepsByPage = true;
}
</script>"""

# What a window loads of Streamlit's own scripts when a page first shows a table, a chart, or a box
# to choose from. It takes half a second, and is done while somebody reads the first page.
AHEAD = (
    "Selectbox",
    "TextInput",
    "ButtonGroup",
    "DataFrame",
    "DownloadButton",
    "ArrowVegaLiteChart",
    "embed",
    "Slider",
)

LOAD_AHEAD = """<script>
if (!window.factbookAhead) {
  window.factbookAhead = "loading";
  const state = () => document.querySelector("[data-testid=stApp]")?.dataset.testScriptState;
  const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
  const idle = () => new Promise(window.requestIdleCallback ?? (done => setTimeout(done, 50)));
  (async () => {
    const entry = document.querySelector("script[type=module][src]")?.src;
    while (state() !== "notRunning") await wait(100);
    for (const file of FILES) {
      await idle();
      await import(new URL(file, entry)).catch(() => {});
    }
    window.factbookAhead = "loaded";
  })();
}
</script>"""


@cache
def ahead_files() -> list[str]:
    """Return the files of the scripts that are loaded ahead."""
    return files_of(Path(get_static_dir()) / "static" / "js", AHEAD)


def main() -> None:
    """Show the page that the address names."""
    overview = st.Page(_at_the_root, title="Overview", default=True)
    about_runs = st.Page(_shown("runs"), title="Runs", url_path="runs")
    comparison = st.Page(_shown("compare"), title="Compare", url_path="compare")
    about_pipeline = st.Page(_shown("pipeline"), title="Pipeline", url_path="pipeline")
    about_concepts = st.Page(_shown("concepts"), title="Concepts", url_path="concepts")
    about_decisions = st.Page(_shown("decisions"), title="Decisions", url_path="decisions")
    about_results = {
        entry.schema: st.Page(_of_result(module), title=entry.title, url_path=entry.path)
        for module, entry in MENU.items()
    }
    known = {
        "overview": overview,
        "runs": about_runs,
        "compare": comparison,
        "pipeline": about_pipeline,
    }
    known |= {"concepts": about_concepts, "decisions": about_decisions}
    frame.remember_pages({**known, "activations": about_concepts, **about_results})
    groups = {"": list(known.values())}
    for entry in MENU.values():
        groups.setdefault(entry.group, []).append(about_results[entry.schema])
    shown = st.navigation(groups, position="top")
    st.set_page_config(page_title=f"{shown.title} · factbook", layout="wide")
    st.html(f"{READABLE}<style>{pictures.style()}</style>")
    ahead = LOAD_AHEAD.replace("FILES", json.dumps(ahead_files()))
    scripts = f"{ONE_STEP}<script>{pictures.script()}</script>{ahead}"
    st.html(scripts, unsafe_allow_javascript=True)
    with PREPARATION.reader() if runtime.exists() else nullcontext():  # none in tests of pages
        shown.run()


def _shown(screen: str) -> Callable[[], None]:
    """Return what shows a page, which is imported when somebody asks for it."""

    def show() -> None:
        import_module(f"dashboards.screens.{screen}").show()

    return show


def _of_result(module: str) -> Callable[[], None]:
    """Return what shows the page of a kind of result, imported likewise."""

    def show() -> None:
        from dashboards.screens.result import show_result

        show_result(view_of(module))

    return show


def _at_the_root() -> None:
    """Show the first page; runs, where an address from before they had a path asks for some."""
    if st.query_params:
        _shown("runs")()
    else:
        _shown("first")()


if __name__ == "__main__":
    main()
