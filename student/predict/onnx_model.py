"""A segmenter as an ONNX file, in ONNX Runtime on the CPU.

Needs onnxruntime and numpy; imports neither torch nor timm.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UserError

Array = npt.NDArray[np.uint8]


class OnnxModel:
    """uint8 RGB images [N, H, W, 3] -> label maps, uint8 [N, H, W]: the file's first output.

    Args:
        path: an ONNX file.
        threads: number of threads to compute in; none for all cores.

    Raises:
        UserError: ONNX Runtime cannot run the file, or it takes something else.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            self._session = _open_session(path, threads)
        except Exception as error:  # ONNX Runtime's errors share no class
            raise UserError(
                f"{path} is not an ONNX file that ONNX Runtime can run ({error}); copy or export it again."
            ) from error
        (taken, *more), (given, *_) = self._session.get_inputs(), self._session.get_outputs()
        if more or taken.type != "tensor(uint8)" or len(taken.shape) != 4 or taken.shape[3] != 3:
            raise UserError(
                f"{path} takes {taken.name} {taken.type} {taken.shape}; a segmenter must take uint8 RGB "
                "images [N, H, W, 3] alone: export it with its normalisation inside."
            )
        self._input, self._output = taken.name, given.name

    def __call__(self, images: Array) -> Array:
        (masks,) = self._session.run([self._output], {self._input: images})
        return np.asarray(masks, np.uint8)


def _open_session(path: Path, threads: int | None) -> Any:
    """An inference session whose threads stop as soon as a run ends.

    By default they spin for a while, on the cores that others need: to decode the next image, say.
    """
    import onnxruntime  # takes longer than all other imports; `--help` does without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
