"""The drawing page in a real Chromium, and a hand on it."""

import numpy as np

from datasets.labels import LabelSet, Mask
from teacher.page.strokes import NOTHING
from tests.browser import Page, Place
from tests.conftest import SIZE
from tests.teacher.page.serving import Served, saved_mask, until

SKIN, HAIR = 1, 2
TEXT = "document.getElementById('{}').textContent"
Corner = tuple[float, float]


class Desk:
    """A page and the hand on it, in pixels of the sample."""

    def __init__(self, page: Page, served: Served, labels: LabelSet) -> None:
        self.page, self.served, self._labels = page, served, labels
        self.sample = 0

    def show(self, sample: int) -> None:
        """Bring a sample on show, as large as fits, with the first brush and skin in hand."""
        self.sample = sample
        self.page.run(f"location.hash = '#{sample}'")
        self.page.wait(f"{TEXT.format('title')} === 'Sample {sample}'")
        self.page.press("Escape", "b", "2", *"[" * 9, "0")

    def place(self, x: float, y: float) -> Place:
        """Where a place of the sample that fits is on the screen."""
        left, top, width, height = self.page.run(
            "(() => { const box = document.getElementById('canvas').getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]; })()"
        )
        scale = (min(width, height) - (16 if width < 500 else 32)) / SIZE
        return (
            left + (width - scale * SIZE) / 2 + x * scale,
            top + (height - scale * SIZE) / 2 + y * scale,
        )

    def drag(self, *places: Corner, button: str = "left") -> None:
        self.page.drag(*(self.place(*place) for place in places), button=button)

    def click(self, x: float, y: float) -> None:
        self.page.drag(self.place(x, y))

    def text(self, name: str) -> str:
        return self.page.run(TEXT.format(name))

    def mask(self) -> Mask:
        """What is on the disk of the sample on show."""
        return saved_mask(self.served.folder, self._labels, self.sample)

    def becomes(self, *drawn: tuple[int, slice, slice]) -> None:
        """Wait until the disk has this, a class for rows and columns, and nothing else."""
        mask = np.full((SIZE, SIZE), NOTHING, np.uint8)
        for label, rows, columns in drawn:
            mask[rows, columns] = label
        until(lambda: np.array_equal(self.mask(), mask))
        # What the page shows is that as well.
        share = int(100 * (mask != NOTHING).mean() + 0.5)
        until(lambda: self.text("facts").endswith(f", {share} % drawn"))

    def settle(self) -> tuple[Mask, Mask]:
        """Wait until the page shows the last answer to all strokes; its classes, and what is drawn."""
        session, sample = self.served.session, self.sample
        until(lambda: session.is_settled and session.answer(sample) is not None)
        answer = session.answer(sample)
        assert answer is not None
        version, data = answer
        self.page.wait(f"document.getElementById('canvas').dataset.version === '{version}'")
        return np.frombuffer(data, np.uint8)[: SIZE * SIZE].reshape(SIZE, SIZE), self.mask()
