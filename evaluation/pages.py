"""HTML pages from the templates in `templates/`."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import atomic_write

REPORT = "report.html"


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fill a template and write it.

    Args:
        path: of the page.
        template: a file name in `templates/`.
        values: what the template names.
    """
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pages.globals["zip"] = zip
    with atomic_write(path) as file:
        file.write_text(pages.get_template(template).render(**values), encoding="utf-8")
