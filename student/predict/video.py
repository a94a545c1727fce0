"""Videos through OpenCV, which is imported only where there is a video: frames in, a tinted video out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError
from student.predict.onnx_model import Array


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"videos need OpenCV ({error}): pip install opencv-python-headless."
        ) from error
    return cv2


class Video:
    """A video file, open for reading.

    Attributes:
        frames: number of frames that the file states; 0 where it states none.
        rate: frames per second.

    Raises:
        OSError: it cannot be read.
        UserError: there is no OpenCV.
    """

    def __init__(self, path: Path) -> None:
        self._cv2 = _opencv()
        self._capture = self._cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise OSError("not a video that OpenCV can read")
        self.frames = max(0, int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = float(self._capture.get(self._cv2.CAP_PROP_FPS)) or 25.0

    def __iter__(self) -> Iterator[Array]:
        """Frames as RGB [H, W, 3], turned as the video says."""
        while True:
            good, frame = self._capture.read()
            if not good:
                self._capture.release()
                return
            yield self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB)


class VideoWriter:
    """An MP4 file written frame by frame, inside `with writer.opened():`."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: Any = None

    @contextmanager
    def opened(self) -> Iterator["VideoWriter"]:
        """The file appears when the block ends without an error, or not at all."""
        try:
            yield self
            if self._writer is not None:
                self._writer.release()
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def add(self, frame: Array) -> None:
        """Append a frame [H, W, 3]; the first frame sets the size of all.

        Raises:
            UserError: OpenCV cannot write such a video.
        """
        cv2 = _opencv()
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            code = cv2.VideoWriter_fourcc(*"mp4v")
            size = (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(str(self._partial), code, self.rate, size)
            if not self._writer.isOpened():
                raise UserError(
                    f"{self.path} cannot be written; this build of OpenCV lacks MP4, leave out --overlay."
                )
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
