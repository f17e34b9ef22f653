"""The commands that the dashboard adds to ``factbook``."""

from __future__ import annotations

from pathlib import Path

import click

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command("report", context_settings=HELP)
@click.argument("experiments", nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
def report(experiments: tuple[str, ...], out: Path | None) -> None:
    """Write what pages show as one HTML file.

    It needs no server, and nothing in it runs or is fetched. EXPERIMENTS are names, cells,
    patterns or suites, as 'shapes-names' or 'demo', or the numbers and identifiers of runs.
    """
    from dashboards.report import render
    from dashboards.views.parts.parts import file_name
    from dashboards.views.sections import sections_of, subtitle_of
    from registry.catalog.access import open_catalog
    from registry.store.durable import disk_errors, whole_file

    title = " ".join(experiments)
    path = out or Path(f"{file_name(title)}.html")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r}", param_hint="--out")
    with open_catalog() as catalog:
        sections = sections_of(catalog, experiments)
        text = render(f"factbook: {title}", subtitle_of(catalog), sections)
    with disk_errors(path, len(text)), whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"{path}: {len(sections)} sections, {len(text) / 1e6:.1f} MB")
