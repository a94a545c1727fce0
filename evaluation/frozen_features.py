"""The row `frozen_features`: the teacher's head on the features of a frozen image encoder.

What people would try first where there is no generator: an encoder trained on other pictures (DINOv2,
say) shows its feature maps of any picture for one forward pass, and the same small network learns from
the same labelled samples.

Shapes: N = pictures, S = their side.
"""

from collections.abc import Callable, Sequence
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
from teacher.fit import TeacherStage, learn

Maps = Callable[[Tensor], Sequence[Tensor]]  # pictures [N, 3, S, S] -> feature maps [N, C, h, w]


@dataclass(frozen=True)
class FrozenConfig:
    """The frozen encoder of the row `frozen_features`.

    Args:
        encoder: a timm model, whose pretrained weights are downloaded the first time or, as
            `local-dir:FOLDER`, lie in a folder; or a finished student folder. None for no such row.
        size: side that it is shown pictures at, a multiple of its stride; transformers need more than
            small pictures have.
    """

    encoder: str = ""
    size: int = 224


def fit_frozen_features(
    maps: Maps,
    size: int,
    pictures: Tensor,
    masks: Tensor,
    config: TeacherStage,
    labels: LabelSet,
) -> Predict:
    """Fit the head to labelled pictures, by the teacher's recipe as far as it speaks of no generator.

    Args:
        maps: of the encoder.
        size: side that it is shown pictures at.
        pictures: uint8 [N, 3, S, S], on the encoder's device.
        masks: uint8 [N, S, S].

    Raises:
        UserError: its maps are not square, so that `size` is no multiple of its stride.
    """

    @torch.no_grad()
    def features(shown: Tensor) -> list[Tensor]:
        large = F.interpolate(shown.float(), (size, size), mode="bilinear", antialias=True)
        return [m.float().contiguous() for m in maps(large.clamp(0, 255))]

    seen = [features(picture[None]) for picture in pictures]
    if any(size % m.shape[-1] for m in seen[0]):
        raise UserError(
            f"compare.frozen_features.size is {size}, which the encoder's maps of {seen[0][-1].shape[-1]} px do "
            "not divide; choose a multiple of its stride (of a transformer, its patch)."
        )
    seed_everything(config.seed)
    names = {f"{m.shape[-1]}.{i}": m.shape[1] for i, m in enumerate(seen[0])}
    network = replace(config.network, feature_maps=())
    head = FewShotCNN(network, names, pictures.shape[-1], len(labels)).to(pictures.device)
    if config.standardise:
        head.balance([torch.cat(layer).std((0, 2, 3)) for layer in zip(*seen, strict=True)])
    optimiser = torch.optim.Adam(
        head.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    for epoch in tqdm(range(config.epochs), desc="frozen_features", unit="epoch"):
        seed_everything(config.seed, epoch)
        order = torch.randperm(len(pictures)).tolist()
        shots = ((seen[i], masks[[i]]) for i in order)
        learn(head, optimiser, config, epoch, shots, labels.ignore_index)
    head.settle()
    head.eval()

    @torch.no_grad()
    def predict(asked: Tensor) -> Tensor:
        # One at a time: at the size that transformers want, maps of a batch need much memory.
        said = [head.probabilities(features(one[None])) for one in asked.to(pictures.device)]
        return torch.cat(said).argmax(1).to(torch.uint8).cpu()

    return predict
