"""Parts in a browser: each shown, with what can be downloaded of it below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from html import escape
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.views.parts.parts import (
    PADDING,
    PICTURE,
    Answer,
    Figure,
    Fold,
    Heading,
    Note,
    Number,
    Numbers,
    Part,
    Passage,
    Passages,
    Pictures,
    Table,
    folded,
)
from dashboards.views.parts.pictures import pictures_html
from dashboards.views.parts.text import literal, unbroken
from registry.columns import BYTES, DURATION, Column
from registry.wording import told_seconds

ROW = 35  # pixels
ROOM = 1200
"""Pixels of all columns of a table in a window of 1400, beside its boxes and a scrollbar."""

LEAST = 110
"""Pixels below which no column is narrowed for others."""

LETTER, CAPITAL, AROUND = 6.7, 8.5, 18
"""Pixels of a letter or a digit, of a capital, and around the text of a cell."""

PASSAGE = '<div class="fb-passage">{}{}<small>{}</small></div>'
TEXT = "{}<mark>{}</mark><u>{}</u>{}"
CUT = (
    '<details><summary><span class="fb-cut">{}</span> <span class="fb-more">more</span>'
    '<span class="fb-less">less</span></summary>{}</details>'
)
ANSWER = (
    '<p style="margin: 0.5rem 0; font-size: 1.25rem; line-height: 1.45; font-weight: 500; '
    'max-width: 60rem; overflow-wrap: anywhere">{}</p>'
)
NOTES = {"info": st.info, "warning": st.warning}
WIDEST = {DURATION: "59 min, 59 sec", BYTES: "999.9KB", PICTURE: "12345678"}
"""What takes as much room as any value of a form."""

BADGES = {
    "RUNNING": ("blue", ":material/sync:"),
    "COMPLETED": ("green", ":material/check_circle:"),
    "FAILED": ("red", ":material/error:"),
    "DIED": ("orange", ":material/heart_broken:"),
    "INTERRUPTED": ("violet", ":material/stop_circle:"),
}
"""Colour and sign of the status of a run, which is always written too."""


def wide_columns(widths: Sequence[float], of: str = "") -> list[DeltaGenerator]:
    """Return columns that stand below each other where a window is narrow.

    Parameters
    ----------
    widths : sequence of float
        Of the columns, relative to each other.
    of : str
        What they are of, where a page has several such.
    """
    with st.container(key=f"wide-columns-{of}" if of else "wide-columns"):
        return st.columns(widths, gap="medium")


def show_parts(parts: Iterable[Part]) -> None:
    """Show parts one below the other."""
    for part in parts:
        show_part(part)


def show_part(part: Part) -> None:
    """Show one part."""
    SHOWN[type(part)](part)


@st.fragment
def show_when_open(title: str, key: str, show: Callable[[], None]) -> None:
    """Show a title that opens more, which is drawn once a reader opens it, and not before.

    Opening draws nothing else anew. What is drawn behind a closed title takes a browser as long as
    what is seen: half a second for the first code on a page, or the first table.

    Parameters
    ----------
    title : str
        What is seen at first.
    key : str
        Of the session, which holds whether it is open.
    show : callable
        Draws what it opens.
    """
    with st.expander(literal(title), key=key, on_change="rerun") as more:
        if more.open:
            show()


def show_folded(parts: Iterable[Part], key: str) -> None:
    """Show parts with their details folded away; the key is that of :func:`show_folds`."""
    show_folds(folded(parts), key)


def show_folds(parts: Iterable[Part | Fold], key: str, chosen: Collection[str] = ()) -> None:
    """Show parts one below the other, what is folded when it is opened.

    Parameters
    ----------
    parts : iterable of Part or Fold
        What is shown.
    key : str
        Of the session, before the title of each fold; no other parts on the page have it.
    chosen : collection of str
        What titles may end with: for another choice a fold is the same, and as open.
    """
    alike: Counter[str] = Counter()
    for part in parts:
        if isinstance(part, Fold):
            title = reduce(str.removesuffix, chosen, part.title)
            alike[title] += 1
            show_when_open(part.title, f"{key}-{title}-{alike[title]}", partial(_unfolded, part))
        else:
            show_part(part)


def show_numbers(numbers: Iterable[Number]) -> None:
    """Show numbers side by side, as many in a row as fit."""
    with st.container(horizontal=True, gap="medium"):
        for number in numbers:
            meaning = literal(number.meaning) or None
            st.metric(literal(number.title), literal(number.value), help=meaning, width="content")


def show_table(table: Table, **options: Any) -> None:
    """Show a table, with its downloads; options are those of `st.dataframe`."""
    _title(table.title)
    if table.frame.empty:
        st.caption("No rows.")
    else:
        st.dataframe(
            as_shown(table.frame, table.columns),
            hide_index=True,
            placeholder="",
            height=3 + ROW * (min(len(table.frame), table.in_sight) + 1),
            column_config=columns_of(table),
            **{"alt": table.title or table.name, **options},
        )
    _footer(" ".join(filter(None, (_out_of_sight(table), table.note))))
    if not table.frame.empty:
        offer_table(table)


def _out_of_sight(table: Table) -> str:
    """Return how many rows there are, where one has to scroll in a table to see all."""
    if len(table.frame) <= table.in_sight:
        return ""
    return f"{table.in_sight} of {len(table.frame):,} rows in sight; scroll in the table for more."


def as_shown(frame: pd.DataFrame, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return a frame as `column_of` shows it: shares in percent, seconds as durations.

    Durations are to their two largest units; they sort as such.
    """
    forms = {name: own.form for name, own in columns.items() if name in frame}
    shares = {name: 100 * frame[name] for name, form in forms.items() if _is_share(form)}
    named = [name for name, form in forms.items() if form == DURATION]
    sizes = {n: pd.to_numeric(frame[n], "coerce") for n, form in forms.items() if form == BYTES}
    return frame.assign(**shares, **sizes, **{name: _durations(frame[name]) for name in named})


def _is_share(form: str) -> bool:
    return form.endswith("%")


def _durations(seconds: pd.Series) -> pd.Series:
    known = pd.to_numeric(seconds, errors="coerce").astype("float64")
    return pd.to_timedelta(known.map(told_seconds, na_action="ignore"), unit="s")


def offer_table(table: Table) -> None:
    """Offer a table as CSV and LaTeX, to be made when it is asked for."""
    show_downloads(
        (f"{table.name}.csv", table.csv, "text/csv"),
        (f"{table.name}.tex", table.latex, "application/x-tex"),
    )


def columns_of(table: Table) -> dict[str, Any]:
    """Return the configuration of the columns of a table; measured values have three digits."""
    measured = [str(name) for name, own in table.frame.items() if own.dtype.kind == "f"]
    every = {name: Column(".3g") for name in measured} | dict(table.columns)
    widths = widths_of(table.frame, every)
    return {
        name: {**column_of(name, every.get(name, Column())), "width": width}
        for name, width in widths.items()
    }


def widths_of(frame: pd.DataFrame, columns: Mapping[str, Column]) -> dict[str, int]:
    """Return how wide columns are, in pixels: as their longest text, in a page's room.

    Where there is not room for all, the widest are narrowed to the same width.
    """
    wished = {str(name): _wished(str(name), own, columns) for name, own in frame.items()}
    widths, left = dict(wished), ROOM
    for number, name in enumerate(sorted(wished, key=lambda name: wished[name])):
        share = max(left // (len(wished) - number), LEAST)
        widths[name] = min(wished[name], share)
        left -= widths[name]
    return widths


def _wished(name: str, values: pd.Series, columns: Mapping[str, Column]) -> int:
    column = columns.get(name, Column())
    texts = [column.header or name, _longest(values, column.form)]
    wide = max(LETTER * len(text) + (CAPITAL - LETTER) * sum(map(str.isupper, text))
               for text in texts)  # fmt: skip
    return int(wide) + AROUND


def _longest(values: pd.Series, form: str) -> str:
    """Return the longest text of a column, or one that is as long."""
    if values.isna().all():
        return ""
    if form in WIDEST:
        return WIDEST[form]
    if pd.api.types.is_float_dtype(values) or form:
        return "12,345.6"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "2026-11-22 01:41:55"
    return max(map(str, values.dropna()), key=len)


def column_of(name: str, column: Column) -> Any:
    """Return the configuration of a column of `st.dataframe`."""
    config = st.column_config
    title, meaning = column.header or name, literal(column.help) or None
    if column.form == PICTURE:
        return config.ImageColumn(title, help=meaning)
    if column.form == DURATION:
        return config.NumberColumn(title, help=meaning, format="localized")
    if column.form == BYTES:
        return config.NumberColumn(title, help=meaning, format="bytes")
    if _is_share(column.form):
        return config.NumberColumn(title, help=meaning, format="%.3g %%")
    if column.form:
        return config.NumberColumn(title, help=meaning, format=f"%{column.form.lstrip('+,')}")
    return config.Column(title, help=meaning)


_LEAST_WIDTH = "<style>.st-key-{} [data-testid=stVegaLiteChart] {{ min-width: {}px; }}</style>"


def show_figure(figure: Figure, is_offered: bool = True, **options: Any) -> Any:
    """Show a chart, with its download unless that stands elsewhere.

    Options and what is returned are those of `st.altair_chart`.
    """
    _title(figure.title)
    place: Any = st
    if figure.least_width:
        place = st.container(key=(key := f"wide-figure-{figure.name}"))
        place.html(_LEAST_WIDTH.format(key, figure.least_width))
    shown = place.altair_chart(
        _AsItIs(figure.chart),
        width="stretch",
        **{"alt": figure.title or figure.name, **options},
    )
    _footer(figure.note)
    if is_offered:
        offer_figure(figure)
    return shown


def offer_figure(figure: Figure) -> None:
    """Offer a chart as SVG, to be drawn when it is asked for."""
    show_downloads((f"{figure.name}.svg", figure.svg, "image/svg+xml"))


@dataclass(frozen=True)
class _AsItIs:
    """A chart whose specification is not validated: that takes a fifth of the time of a page."""

    chart: Any

    def to_dict(self) -> dict[str, Any]:
        """Return the specification, as Streamlit asks for it."""
        specification: dict[str, Any] = self.chart.to_dict(validate=False)
        return {"padding": PADDING, **specification}


def _unfolded(fold: Fold) -> None:
    """Show what belongs to a title; a part of that title does not say it again."""
    for part in fold.parts:
        if isinstance(part, Table | Figure) and part.title == fold.title:
            SHOWN[type(part)](replace(part, title=""), alt=part.title)
        else:
            show_part(part)


def _pictures(part: Pictures) -> None:
    _title(part.title)
    st.html(pictures_html(part))
    _footer(part.note)


def _passages(part: Passages) -> None:
    _title(part.title)
    shown = (
        PASSAGE.format(_heading(one), passage_html(one), escape(unbroken(one.caption)))
        for one in part.passages
    )
    st.html("".join(shown))
    _footer(part.note)


def passage_html(passage: Passage) -> str:
    """Return a text with its token marked, escaped; a long one is cut until it is opened."""
    cut, whole = (TEXT.format(*map(escape, one.texts)) for one in (passage.cut(), passage))
    return whole if cut == whole else CUT.format(cut, whole)


def _heading(passage: Passage) -> str:
    """Return what stands above a passage, escaped, as a link where it leads somewhere."""
    title = f"<b>{escape(passage.title)}</b>"
    if passage.link:
        title = f'<a class="fb-go" href="{escape(passage.link)}" target="_self">{title}</a>'
    return f"{title}<br>" if passage.title else ""


def _title(title: str) -> None:
    if title:
        st.markdown(f"**{literal(title)}**")


def _footer(note: str) -> None:
    if note:
        st.caption(literal(note))


def show_downloads(*files: tuple[str, Callable[[], str | bytes], str]) -> None:
    """Offer files that are made only when they are asked for."""
    with st.container(horizontal=True, gap="small"):
        for name, content, kind in files:
            st.download_button(
                name.rpartition(".")[2].upper() if not name.endswith(".tex") else "LaTeX",
                content,
                name,
                kind,
                key=f"download-{name}",
                type="tertiary",
                icon=":material/download:",
                on_click="ignore",
            )


SHOWN: dict[type, Callable[..., object]] = {
    Heading: lambda part: st.subheader(literal(part.text), anchor=False),
    Answer: lambda part: st.html(ANSWER.format(escape(unbroken(part.text)))),
    Note: lambda part: NOTES.get(part.kind, st.caption)(literal(part.text)),
    Numbers: lambda part: show_numbers(part.numbers),
    Table: show_table,
    Figure: show_figure,
    Pictures: _pictures,
    Passages: _passages,
}
