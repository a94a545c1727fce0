"""Pages that are served, and browsers that show them."""

from collections.abc import Iterator

import pytest

from datasets.labels import LabelSet
from tests.browser import PROGRAM, Page, browser
from tests.conftest import Chain
from tests.teacher.page.desk import Desk
from tests.teacher.page.serving import Served, serve


@pytest.fixture(scope="module")
def served(
    chain: Chain, labels: LabelSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with serve(chain, labels, tmp_path_factory.mktemp("served") / "out") as served:
        yield served


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if PROGRAM is None:
        pytest.skip("no Chromium here: install it (Debian: apt-get install chromium)")
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def desk(page: Page, served: Served, labels: LabelSet) -> Desk:
    page.open(served.url)
    page.screen(1000, 700)
    return Desk(page, served, labels)
