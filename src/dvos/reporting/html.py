"""``dvos report``: one self-contained HTML page about a run, or about several side by side.

Texts are escaped by the templates; only the plots' drawings are markup already.
"""

from functools import cache
from pathlib import Path
from statistics import median
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from dvos.config.scoring import ReportSettings
from dvos.files import read_bytes, real_path, refuse_foreign, write_bytes
from dvos.reporting import numbers
from dvos.reporting.comparison import compared_sections, gather_runs
from dvos.reporting.contents import as_mapping, known
from dvos.reporting.figures import HEIGHT, WIDTH
from dvos.reporting.gather import RunContents
from dvos.reporting.numbers import moment
from dvos.reporting.pictures import FALSE_ALARM, HIT, MISS, data_uri
from dvos.reporting.single import run_sections

#: Stands in the heading of every report.
_SUBJECT = "Dense-pattern video object segmentation"
#: Bytes in which that is, style included.
_HEAD = 2**16


def write_report(settings: ReportSettings) -> Path:
    """Write the report of a run, or of several runs side by side.

    The page asks for nothing from elsewhere, and the same run gives the same bytes. Parts that the
    run does not have are left out and named at the end of the page, and so are missing pictures.
    """
    title = settings.title
    if settings.compare:
        # The page on one run stays when runs are compared.
        page = _page(settings, "comparison.html")
        runs = gather_runs((settings.run, *settings.compare), frames=settings.frames)
        values: dict[str, object] = {
            "contents": compared_sections(runs, settings),
            "title": title or f"DVOS runs {', '.join(run.name for run in runs)}",
            "line": f"{_SUBJECT} · {len(runs)} runs side by side",
            "first": runs[0].letter,
            "version": None,
        }
    else:
        page = _page(settings, "report.html")
        run = RunContents(settings.run, frames=settings.frames)
        line = [_SUBJECT]
        if run.history.finished:
            line.append(f"finished {moment(run.history.finished)}")
        if run.history.seed is not None:
            line.append(f"seed {run.history.seed}")
        values = {
            "contents": run_sections(run, settings, page),
            "version": as_mapping(run.metadata.get("versions")).get("dvos"),
            "title": title or f"DVOS run {real_path(settings.run).name}",
            "line": " · ".join(line),
            "whose": "held-out data" if run.held_out else "target video",
        }
    template = "comparison.html" if settings.compare else "run.html"
    text = environment().get_template(template).render(values)
    # Names of files, and texts of JSON files, may hold what is no letter.
    write_bytes(page, text.encode("utf-8", "replace"))
    return page


def _page(settings: ReportSettings, name: str) -> Path:
    place = settings.out or settings.run
    page = place / name if settings.out is None or place.is_dir() else place
    if page.is_file() and _SUBJECT.encode() not in read_bytes(page, "a report", _HEAD):
        refuse_foreign([page], "dvos report")
    return page


@cache
def environment() -> Environment:
    """The templates, with what they call: numbers as texts, columns of tables, sizes, colours."""
    made = Environment(
        loader=PackageLoader("dvos.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals.update({name: f for name, f in vars(numbers).items() if not name.startswith("_")})
    made.globals.update(known=known, median=median, quote=quote, data_uri=data_uri)
    made.globals["plot_size"] = WIDTH, HEIGHT
    made.globals["verdicts"] = {"hit": HIT, "miss": MISS, "false alarm": FALSE_ALARM}
    return made
