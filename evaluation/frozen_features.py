"""The row `frozen_features`: the teacher's network on the feature maps of a frozen image encoder.

It is the first thing to try without a generator: an encoder trained on other images (DINOv2, say) gives its
feature maps of any image in one forward pass, and the teacher's network learns from the same samples.

Shapes: N = images, S = their side, C = channels, h, w = size of a feature map.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError
from common.seeding import seed_everything
from datasets.labels import LabelSet
from student.network import Predict
from teacher.fewshot import FewShotCNN
from teacher.fit import TeacherStage, train_epoch
from teacher.generators.image_distance import FeatureMaps
from teacher.shots import Shot


@dataclass(frozen=True)
class FrozenFeaturesConfig:
    """The encoder of the row `frozen_features`.

    Args:
        encoder: name of a timm model with pretrained weights, which are downloaded the first time;
            `local-dir:FOLDER` where they lie in a folder; or a finished student folder; empty for no such
            row.
        size: side in pixels to which images are resized for the encoder, a multiple of its stride;
            transformers need more pixels than small images have.
    """

    encoder: str = ""
    size: int = 224


def fit_frozen_features(
    maps: FeatureMaps,
    size: int,
    images: Tensor,
    masks: Tensor,
    recipe: TeacherStage,
    labels: LabelSet,
) -> Predict:
    """Train the teacher's network on an encoder's feature maps; returns a segmenter.

    Args:
        maps: the encoder: float images [N, 3, size, size] -> feature maps [N, C, h, w].
        size: side to which images are resized for it.
        images: uint8 [N, 3, S, S], on the encoder's device.
        masks: uint8 [N, S, S].
        recipe: the teacher's; what it says about generators is ignored.
        labels: the classes.

    Raises:
        UserError: `size` is no multiple of the encoder's stride.
    """
    per_image = [_features(maps, size, image[None]) for image in images]
    if any(size % m.shape[-1] for m in per_image[0]):
        raise UserError(
            f"compare.frozen_features.size is {size}, no multiple of the {per_image[0][-1].shape[-1]} px "
            "of the encoder's maps; choose a multiple of its stride (of a transformer, its patch)."
        )
    seed_everything(recipe.seed)
    names = {f"{m.shape[-1]}.{i}": m.shape[1] for i, m in enumerate(per_image[0])}
    network = replace(recipe.network, feature_maps=())
    head = FewShotCNN(network, names, images.shape[-1], len(labels)).to(images.device)
    if recipe.standardise:
        head.standardise(
            [torch.cat(layer).std((0, 2, 3)) for layer in zip(*per_image, strict=True)]
        )
    optimiser = torch.optim.Adam(
        head.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    for epoch in tqdm(range(recipe.epochs), desc="frozen_features", unit="epoch"):
        seed_everything(recipe.seed, epoch)
        order = torch.randperm(len(images)).tolist()
        shots = (Shot(per_image[i], masks[[i]]) for i in order)
        train_epoch(head, optimiser, recipe, epoch, shots, labels.ignore_index)
    head.fold_scale()
    head.eval()

    @torch.no_grad()
    def predict(batch: Tensor) -> Tensor:
        # One image at a time: at the size that transformers need, the maps of a batch take much memory.
        parts = [
            head.probabilities(_features(maps, size, image[None]), image[None])
            for image in batch.to(images.device)
        ]
        return torch.cat(parts).argmax(1).to(torch.uint8).cpu()

    return predict


@torch.no_grad()
def _features(maps: FeatureMaps, size: int, images: Tensor) -> list[Tensor]:
    """The encoder's maps of images [N, 3, S, S]."""
    resized = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return [m.float().contiguous() for m in maps(resized.clamp(0, 255))]
