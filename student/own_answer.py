"""What a student's moving average says of the pixels that it learns, beside the pseudo-labels or alone.

The average answers on an image as it is, and the student learns that on a shifted, turned and recoloured
one. The two ideas are from "Mean teachers are better role models" (Tarvainen and Valpola, 2017) and
FixMatch (Sohn et al., 2020); UniMatch (Yang et al., 2023) segments so. To mix labels with the learner's own
answer is bootstrapping (Reed et al., 2015).

Shapes: B = batch, C = classes, H, W = pixels.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.answers import join_answers
from common.seeding import step_seed
from datasets import Dataset
from datasets.faces import RenderedFaces
from datasets.fetch import fetch
from datasets.photograph_overview import Overview
from datasets.photographs import Photographs
from datasets.pseudo_labels import Labelled
from datasets.transforms import Sample
from student.recipe import OwnAnswer, StudentStage

_MEAN_OF = 500  # labelled images whose mean shows how they frame a face


class Unlabelled(Dataset[Any]):
    """Images without masks as `Labelled` items whose pixels all have the ignore index.

    Args:
        images: uint8 [N, 3, H, W], in memory or in a file.
        ignore_index: of the label set.
        top_k: classes of each pixel that the labelled items beside them have.
    """

    def __init__(self, images: npt.NDArray[np.uint8], ignore_index: int, top_k: int) -> None:
        self.images, self.ignore_index, self.top_k = images, ignore_index, top_k

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Labelled:
        image = torch.from_numpy(np.array(self.images[index]))
        nothing = torch.zeros_like(image[0])
        others = nothing.expand(2 * (self.top_k - 1), *nothing.shape)
        return Labelled(image, nothing + self.ignore_index, nothing, others)


def open_unlabelled(
    recipe: StudentStage,
    like: Labelled,
    ignore_index: int,
    photographs: Path | None,
    packed: Path,
    kept_back: int = 0,
    look: Callable[[Overview], None] | None = None,
) -> Unlabelled | None:
    """The images without masks that the recipe names; none for none.

    Args:
        like: a labelled item, for the size of the images and the number of classes of its pixels.
        ignore_index: of the label set.
        photographs: their folder or zip file.
        packed: file that keeps the cropped photographs.
        kept_back: number of the photographs that are passed over.
        look: is shown the photographs when they have been read.

    Raises:
        UserError: the photographs cannot be read.
    """
    if recipe.own_answer.unlabelled == "none":
        return None
    size, top_k = like.image.shape[-1], 1 + len(like.runners_up) // 2
    if recipe.own_answer.unlabelled == "rendered":  # once: rendering takes as long as learning
        images = (
            RenderedFaces(recipe.seed, recipe.own_answer.unlabelled_faces, size).whole()[0].numpy()
        )
    else:
        assert photographs is not None
        images = Photographs(photographs, size, packed, kept_back, look).images
    return Unlabelled(images, ignore_index, top_k)


def tell_of_photographs(folder: Path, training: Dataset[Any], overview: Overview) -> None:
    """Write and print what the photographs are, beside the images of the labelled items."""
    some = range(min(_MEAN_OF, len(training)))  # type: ignore[arg-type]
    overview.tell(folder, torch.stack([item.image for item in fetch(training, some)]))


def with_own_answer(batch: Sample, own: Tensor, config: OwnAnswer, ignore_index: int) -> Sample:
    """A batch whose labels are joined with the average's answer; where it has none, that one stands alone.

    Args:
        own: probabilities [B, C, H, W] that the average gives the classes in the original images.
        config: the weight of the labels, and what counts where there is none.
        ignore_index: mask value of pixels without a label.
    """
    places = batch.places.flatten(1).unsqueeze(1).expand(-1, own.shape[1], -1)
    moved = own.flatten(2).gather(2, places).view_as(own)

    unknown = (batch.mask == ignore_index).unsqueeze(1)
    weight = torch.where(unknown, 0.0, config.teacher_weight)
    answer = join_answers(_probabilities(batch, own.shape[1]), moved, weight)

    top_k = 1 + batch.runners_up.shape[1] // 2
    shares, classes = answer.topk(top_k, dim=1)
    doubted = unknown[:, 0] & (shares[:, 0] < config.least_confidence)
    others = torch.stack([classes[:, 1:], (255 * shares[:, 1:]).round()], 2).flatten(1, 2)
    return batch._replace(
        mask=classes[:, 0],
        confidence=shares[:, 0].masked_fill(doubted, 0),
        runners_up=others.to(torch.uint8),
    )


def mixed(
    batch: Sample, bare: Tensor, classes: int, share: float, seeds: tuple[int, int]
) -> Sample:
    """A batch in which parts of labelled images cover those without masks, with their labels.

    The parts are the pixels of half of the classes, drawn for each image: ClassMix (Olsson et al., 2021),
    as DACS (Tranheden et al., 2021) lays one kind of images over another. Which images meet, and what is
    drawn, does not depend on how many processes share the batch.

    Args:
        bare: which images had no mask, bool [B]; they come after the others.
        classes: C.
        share: probability that an image is covered.
        seeds: the choice for an image depends on these two and its number alone.
    """
    below, above = bare.nonzero().flatten(), (~bare).nonzero().flatten()
    if not share or not len(below) or not len(above):
        return batch
    # Shares of both kinds are contiguous, so each image meets one of its own share.
    above = above[torch.arange(len(below), device=above.device) * len(above) // len(below)]
    drawn = torch.stack([_draw(classes + 1, *seeds, n) for n in batch.number[below].tolist()])
    drawn = drawn.to(bare.device)
    chosen = (drawn[:, 1:] < 0.5) & (drawn[:, :1] < share)
    target = batch.mask[above].clamp_max(classes - 1)  # a pixel that is ignored covers as any other
    covers = chosen.gather(1, target.flatten(1)).view_as(target)

    def laid(column: Tensor) -> Tensor:
        where = covers if column.ndim == covers.ndim else covers.unsqueeze(1)
        return column.index_copy(0, below, torch.where(where, column[above], column[below]))

    image, mask, confidence, runners_up = map(laid, batch[:4])
    return batch._replace(image=image, mask=mask, confidence=confidence, runners_up=runners_up)


def _draw(count: int, *seeds: int) -> Tensor:
    """Numbers from 0 to 1, [count]."""
    return torch.rand(count, generator=torch.Generator().manual_seed(step_seed(*seeds)))


def _probabilities(batch: Sample, classes: int) -> Tensor:
    """The labels as probabilities [B, C, H, W]: what the known classes leave is shared by the others."""
    known = [batch.mask.unsqueeze(1), batch.runners_up[:, 0::2].long()]
    shares = [batch.confidence.unsqueeze(1), batch.runners_up[:, 1::2].float() / 255]
    ranked, given = torch.cat(known, 1).clamp_max(classes - 1), torch.cat(shares, 1)
    rest = (1 - given.sum(1, keepdim=True)).clamp_min(0) / max(classes - ranked.shape[1], 1)
    dense = rest.expand(-1, classes, -1, -1).contiguous()
    return dense.scatter(1, ranked, given)
