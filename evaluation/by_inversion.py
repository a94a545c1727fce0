"""The row `teacher_by_inversion`: the teacher on images that its generator did not draw.

The teacher needs the generator's feature maps. For any other image GAN inversion finds latents that draw
nearly that image; this takes seconds for each, and the student does without it.
"""

from time import monotonic

from torch import Tensor

from common.checkpoints import Checkpoints
from common.stage_folder import StageFolder, plain
from datasets.sheets import save_sheet
from evaluation.models import Loaded
from evaluation.options import CompareStage
from evaluation.predictions import SetPredictions
from evaluation.report import INVERSION_SHEET
from evaluation.rows import STUDENT, TEACHER_BY_INVERSION
from student.network import load_maps
from teacher.generators.image_distance import FeatureMaps
from teacher.generators.inversion import Guess, invert
from teacher.generators.inversion_encoder import load_inversion_encoder
from teacher.predict import predict_samples


class TeacherByInversion:
    """Adds the row to a test set.

    Args:
        settings: how images are inverted.
        loaded: the run's networks.
        folder: of the stage; the input `inversion_encoder`, if there is one, gives a start.
    """

    def __init__(self, settings: CompareStage, loaded: Loaded, folder: StageFolder) -> None:
        self._settings, self._loaded, self._folder = settings, loaded, folder
        self._perceptual_network: FeatureMaps = loaded.students[STUDENT].maps
        if settings.perceptual_network:
            self._perceptual_network = load_maps(
                settings.perceptual_network, loaded.generator.device
            )
        self._seconds: float | None = None
        self._guess: Guess | None = None
        if path := folder.inputs.get("inversion_encoder"):
            self._guess = load_inversion_encoder(path, loaded.generator, loaded.generator_hash)

    def add_row(self, name: str, predictions: SetPredictions) -> SetPredictions:
        """Invert the first images of a test set and predict their masks from the latents found.

        Writes `inversion_NAME.png`, images beside what the generator draws from these latents.

        Args:
            name: of the test set.
            predictions: the other models' masks.
        """
        settings, generator, teacher = self._settings, self._loaded.generator, self._loaded.teacher
        predictions = predictions.first(settings.inversion_images)
        checkpoints = Checkpoints(self._folder.checkpoints / f"inversion_{name}")
        inverted = invert(
            generator, predictions.images, settings.inversion, self._perceptual_network,
            checkpoints, self._guess,
        )  # fmt: skip
        masks = predict_samples(generator, teacher, inverted.samples)
        if self._seconds is None:
            self._seconds = self._seconds_alone(predictions.images[:1])
        save_sheet(inverted.sheet(), self._folder.path / INVERSION_SHEET.format(name))
        about = {
            "psnr": float(inverted.psnr.mean()),
            "psnr_each": inverted.psnr.tolist(),
            "inversion": plain(settings.inversion)
            | {"perceptual_network": settings.perceptual_network or STUDENT},
            "seconds_in_batches": inverted.seconds,
        }
        return predictions.with_teacher(TEACHER_BY_INVERSION, masks, self._seconds, about)

    def _seconds_alone(self, image: Tensor) -> float:
        """Seconds for an image [1, 3, R, R] on its own, as all rows are timed.

        It takes seconds, and as many for any image, so that one image of the first set is enough.
        """
        generator, inversion = self._loaded.generator, self._settings.inversion
        single = invert(generator, image, inversion, self._perceptual_network, guess=self._guess)
        begun = monotonic()
        predict_samples(generator, self._loaded.teacher, single.samples)
        return single.seconds + monotonic() - begun
