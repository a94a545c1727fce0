import pytest
import torch
from torch.utils.data import DataLoader

from datasets import Dataset
from datasets.batches import EndlessBatches
from datasets.faces import RenderedFaces
from datasets.pseudo_labels import Labelled
from datasets.transforms import Augmentation, Augmented, Exact
from student.data import collate

FACES = Exact(RenderedFaces(0, 16, 32))


def augmented(augmentation: Augmentation | None = None) -> Augmented:
    return Augmented(FACES, augmentation or Augmentation(), 255, seed=1)


def test_augmentation_depends_on_epoch_and_index_alone() -> None:
    first, again = augmented()[(0, 3)], augmented().__getitems__([(2, 1), (0, 3)])[1]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.mask, again.mask)
    other = augmented()[(1, 3)]
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    order = EndlessBatches(16, 4, 0, 6, seed=0, rank=0, ranks=1)
    loader = DataLoader(augmented(), batch_sampler=order, num_workers=workers, collate_fn=collate)
    plain = [augmented().__getitems__(keys) for keys in order]
    for batch, samples in zip(loader, plain, strict=True):
        assert torch.equal(batch.image, torch.stack([s.image for s in samples]))


def test_mask_and_image_move_together() -> None:
    """On an image that is its own mask, geometry alone must keep the two equal."""

    class Squares(Dataset[Labelled]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Labelled:
            mask = torch.zeros(32, 32, dtype=torch.uint8)
            mask[4:14, 6:20] = 1
            runners_up = torch.stack([mask, mask * 9, mask + 1, mask, mask, mask * 3])
            image = (mask * 200).expand(3, -1, -1)
            return Labelled(image, mask, torch.full_like(mask, 255), runners_up)

    geometry = Augmentation(
        flip=0.5, shift=0.2, scale=0.2, rotate=30, colour=0, hue=0, blur=0, noise=0, grey=0
    )
    data = Augmented(Squares(), geometry, 255, seed=0)
    moved = 0
    for epoch in range(20):
        sample = data[(epoch, 0)]
        seen = sample.mask != 255
        agree = ((sample.image[0] > 100) == (sample.mask == 1))[seen].float().mean()
        assert agree > 0.98
        assert torch.equal(sample.runners_up[1][seen].long(), sample.mask[seen] * 9)
        assert torch.equal(sample.runners_up[2][seen].long(), sample.mask[seen] + 1)
        moved += not torch.equal(sample.mask, Squares()[0][1].long())
    assert moved > 10


def test_everything_off_leaves_the_sample_alone() -> None:
    off = Augmentation(flip=0, shift=0, scale=0, rotate=0, colour=0, hue=0, blur=0, noise=0, grey=0)
    sample = augmented(off)[(0, 2)]
    assert torch.equal(sample.image, FACES[2].image)
    assert torch.equal(sample.mask, FACES[2].mask.long())
    assert sample.confidence.min() == 1
