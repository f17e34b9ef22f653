"""A published table, typed from the page into a file, to hold results against."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import registry
from registry.suggest import RefusalError


class PrintedTableError(RefusalError, ValueError):
    """A file that holds no table, or cells that are no numbers."""


@registry.kind("datasets", "printed-table", provides="printed_table")
@dataclass(frozen=True)
class PrintedTable:
    """Cells of a published table as they are printed, for `evals.compare_published`.

    Parameters
    ----------
    path : str
        CSV file in UTF-8, relative to the folder of the declaration. Its first row names the
        columns, its first column the metrics; cells are numbers as they are printed, with or
        without ``%``, and empty where the table has none.
    """

    path: registry.Runtime[str]

    source = "type the table from the paper: a row for each metric, its columns as they are printed"

    def identity(self) -> str:
        """Return a content hash of the file.

        Raises
        ------
        registry.plan.contents.IdentityError
            If it is not there.
        """
        return registry.content_identity(self.path)

    def load(self) -> Mapping[str, Mapping[str, float]]:
        """Return what is printed, by column and row, without empty cells.

        Raises
        ------
        PrintedTableError
            If there is no table in it, a row or column stands twice, or a cell is no number.
        """
        try:
            with Path(self.path).expanduser().open(encoding="utf-8-sig", newline="") as file:
                lines = [line for line in csv.reader(file) if any(map(str.strip, line))]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise PrintedTableError(f"printed table {self.path}: {error}") from error
        header, *rows = [[cell.strip() for cell in line] for line in lines] or [[]]
        columns, names = header[1:], [row[0] for row in rows]
        for what, found in (("column", columns), ("row", names)):
            if twice := {name for name in found if found.count(name) > 1}:
                raise PrintedTableError(
                    f"printed table {self.path}: {what} {min(twice)!r} stands twice"
                )
        if not columns or not rows:
            raise PrintedTableError(
                f"printed table {self.path}: expected a row of columns and rows of cells below it"
            )
        return {
            column: {row[0]: self._number(row, place) for row in rows if "".join(row[place:][:1])}
            for place, column in enumerate(columns, 1)
        }

    def _number(self, row: list[str], place: int) -> float:
        try:
            number = float(row[place].removesuffix("%"))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise PrintedTableError(
                f"printed table {self.path}: {row[0]}, column {place}: expected a number; "
                f"got {row[place]!r}"
            )
        return number
