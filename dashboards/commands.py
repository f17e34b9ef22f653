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
    from registry.wording import counted, size_text

    title = " ".join(experiments)
    path = out or Path(f"{file_name(title)}.html")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r}", param_hint="--out")
    with open_catalog() as catalog:
        sections = sections_of(catalog, experiments)
        text = render(f"factbook: {title}", subtitle_of(catalog), sections)
    with disk_errors(path, len(text)), whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"{path}: {counted(len(sections), 'section')}, {size_text(path.stat().st_size)}")


@click.command("publish", context_settings=HELP)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("experiments", nargs=-1)
@click.option("--title", help="What the site is called; by default as the project.")
@click.option("--anew", is_flag=True, help="Leave out runs that were published there before.")
@click.option("--dry-run", is_flag=True, help="Say what would be published, and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
def publish(
    folder: Path,
    experiments: tuple[str, ...],
    title: str | None,
    anew: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Write concepts and decisions as a static site.

    With verdicts beside names, and JSON beside each page. Any web server shows it, and so does a
    browser that opens FOLDER/index.html. EXPERIMENTS are names, cells, patterns or suites, by
    default all that have finished. Runs that were published there before stay, so that links to
    them last. Images are written where the declaration of their dataset has a licence that allows
    it, or says `publish = true`; else maps alone. What would be published is listed first.
    """
    from dashboards.site.choice import chosen_of, kept_of
    from dashboards.site.folder import published_in, taking_the_place_of
    from dashboards.site.publish import listed
    from dashboards.site.publish import publish as write
    from registry.catalog.access import open_catalog
    from registry.store.durable import disk_errors
    from registry.terminal import print_table
    from registry.wording import counted, size_text

    before = published_in(folder) or {}
    with open_catalog() as catalog:
        lineage = catalog.lineage()
        chosen = chosen_of(catalog, lineage, experiments)
        kept, gone = ([], []) if anew else kept_of(catalog, lineage, before, chosen)
        lines = list(listed([*chosen, *kept], lineage))
        columns = ("", "experiment", "run", "pages", "images", "of")
        rows = [(o.what, o.cell, o.run, o.content, o.pictures or "none", o.data) for o in lines]
        rows += [(p["kind"], p["cell"], p["run"], "as before", "", "its run is gone") for p in gone]
        print_table(columns, rows)
        pictures = sum(line.pictures for line in lines)
        click.echo(f"{counted(len(rows), 'run')}, up to {counted(pictures, 'image')}, to {folder}")
        if dry_run:
            return
        if not yes:
            click.confirm("Publish this?", abort=True)
        with disk_errors(folder), taking_the_place_of(folder) as new:
            called = title or catalog.project.declaration.project.name or catalog.project.root.name
            place = folder if before else None
            site = write(catalog, lineage, [*chosen, *kept], new, called, gone, place, click.echo)
    click.echo(f"{folder}: {counted(site.files, 'file')}, {size_text(site.size)}")
