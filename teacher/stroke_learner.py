"""A small ensemble that answers while a person draws: for each pixel alone, from its features.

Every member is a network of three layers on the hypercolumn of one pixel, as DatasetGAN's (Zhang et al.,
2021). It sees only pixels with a stroke, a few thousand, so that it learns in tenths of a second; the
first layer acts on each feature map at its own size, so that an answer takes as long. Members differ by
their weights at first and by what each sample counts for them (Bayesian bootstrap, Rubin, 1981); where
they disagree, they are in doubt.

Shapes: K = members, H = hidden channels, C = classes, R = side of the image, P = pixels, D = features of a
pixel, r = side of a feature map.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.labels import Mask
from teacher.edges import smooth_along_edges
from teacher.fewshot import uncertainty
from teacher.packing import at_pixels

_HIDDEN, _SLOPE = 24, 0.2
_LEARNING_RATE, _WEIGHT_DECAY, _DROPOUT, _BATCH = 3e-3, 1e-4, 0.3, 256
_RARE = 0.75  # a class of n pixels counts as n ** (1 - _RARE)
_MOST = 250  # pixels of a class of a sample, where it has more pixels in all
_OFFERED, _GROUPS = 100, 5  # pixels of a sample without a class; samples of which a step sees these
_ALONE = 100  # first steps, on pixels with a class alone
_AVERAGED = 10  # steps between two weights of which the mean is taken
_LARGEST_ANSWER = 256  # px; a larger image's answer is made at this size and enlarged


class Answer(NamedTuple):
    """What the ensemble makes of a sample.

    Attributes:
        classes: uint8 [R, R].
        doubt: from 0, all members agree, to 255, they are split in two halves or worse; uint8 [R, R].
    """

    classes: Mask
    doubt: npt.NDArray[np.uint8]


class PixelEnsemble(nn.Module):
    """Hypercolumns of pixels, or the maps that they come from -> logits of every member.

    Args:
        channels: of each feature map.
        classes: C.
        members: K.
    """

    def __init__(self, channels: Sequence[int], classes: int, members: int) -> None:
        super().__init__()
        self.channels, self.members = list(channels), members
        depth, width = sum(channels), members * _HIDDEN
        self.first = nn.Parameter(torch.randn(depth, width) * depth**-0.5)
        self.first_bias = nn.Parameter(torch.zeros(width))
        self.second = nn.Parameter(torch.randn(members, _HIDDEN, _HIDDEN) * (2 / _HIDDEN) ** 0.5)
        self.second_bias = nn.Parameter(torch.zeros(members, 1, _HIDDEN))
        self.last = nn.Parameter(torch.zeros(members, _HIDDEN, classes))
        self.last_bias = nn.Parameter(torch.zeros(members, 1, classes))

    def of_pixels(self, columns: Tensor) -> Tensor:
        """[P, D] -> [K, P, C]."""
        return self._rest(torch.addmm(self.first_bias, columns, self.first))

    def of_maps(self, pack: Sequence[Tensor], side: int) -> Tensor:
        """Maps [1, C, r, r] -> [K, side * side, C]: the same function of every pixel's hypercolumn."""
        total = self.first_bias[:, None, None].expand(-1, side, side)
        parts = zip(pack, self.first.split(self.channels), strict=True)
        for own, group in groupby(
            parts, lambda part: part[0].shape[-1]
        ):  # maps of one size at once
            maps, weights = zip(*group, strict=True)
            x = torch.cat([f[0] for f in maps]).float().flatten(1)  # [C, r r]
            hidden = (torch.cat(weights).t() @ x).unflatten(1, (own, own))
            if own != side:
                hidden = F.interpolate(hidden[None], (side, side), mode="bilinear")[0]
            total = total + hidden
        return self._rest(total.flatten(1).t())

    def _rest(self, hidden: Tensor) -> Tensor:
        x = F.leaky_relu(hidden, _SLOPE).unflatten(1, (self.members, _HIDDEN)).transpose(0, 1)
        x = F.leaky_relu(torch.baddbmm(self.second_bias, x, self.second), _SLOPE)
        return torch.baddbmm(self.last_bias, x, self.last)


class _Seen(NamedTuple):
    """Labelled pixels of a sample: columns [P, D], classes [P], what each counts for members [K, P]."""

    columns: Tensor
    classes: Tensor
    counts: Tensor


class StrokeLearner:
    """The ensemble, the pixels that it learns from, and its optimiser.

    Args:
        channels: of each feature map of a pack.
        classes: C.
        side: R.
        nothing: value of the pixels without a class.
        seed: of all that is random.
        members: K.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        side: int,
        nothing: int,
        seed: int = 0,
        members: int = 6,
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = PixelEnsemble(channels, classes, members)
        self.classes, self.side, self._nothing, self._seed = classes, side, nothing, seed
        self._random = torch.Generator().manual_seed(seed)
        self._optimiser = torch.optim.Adam(
            self.network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )
        self._seen: dict[int, _Seen] = {}
        self._joined: _Seen | None = None  # all of them, until one changes
        self._offered: list[Tensor] = []
        self._steps = 0

    @property
    def knows_nothing(self) -> bool:
        """Whether no pixel has a class."""
        return not self._seen

    def see(self, sample: int, pack: Sequence[Tensor], mask: Mask) -> None:
        """Learn from this mask of a sample from now on.

        Args:
            pack: the sample's features.
            mask: [R, R], `nothing` where there is no class.
        """
        pixels = torch.from_numpy(np.flatnonzero(mask.reshape(-1) != self._nothing))
        self._joined = None
        if not len(pixels):
            self._seen.pop(sample, None)
            return
        classes = torch.from_numpy(mask.reshape(-1)).long()[pixels]
        state = torch.Generator().manual_seed(self._seed * 1_000_003 + sample)
        # A sample's pixels of one class count as one thing: they are alike.
        counts = torch.empty(self.network.members, self.classes).exponential_(generator=state)
        if len(pixels) > _MOST:  # of an accepted mask: some of each class say as much
            mixed = torch.randperm(len(pixels), generator=state)
            some = [mixed[classes[mixed] == c][:_MOST] for c in classes.unique()]
            pixels, classes = pixels[torch.cat(some)], classes[torch.cat(some)]
        columns = at_pixels(pack, pixels, self.side)
        self._seen[sample] = _Seen(columns, classes, counts[:, classes])

    def offer(self, pack: Sequence[Tensor]) -> None:
        """Learn also from some pixels of this sample without a class, by what each member answers itself.

        Args:
            pack: the sample's features.
        """
        pixels = torch.randint(self.side**2, (_OFFERED,), generator=self._random)
        self._offered.append(at_pixels(pack, pixels, self.side).half())

    def learn(self, steps: int) -> None:
        """Take so many steps."""
        columns, classes, counts = self._all_seen()
        found = torch.bincount(classes, minlength=self.classes).clamp_min(1).float()
        weights = counts * (found**-_RARE)[classes]  # a few pixels of a small part matter
        for _ in range(steps):
            chosen = torch.randint(
                len(classes), (min(_BATCH, len(classes)),), generator=self._random
            )
            logits = self.network.of_pixels(self._dropped(columns[chosen]))
            loss = _loss(logits, classes[chosen], weights[:, chosen])
            if self._steps >= _ALONE and self._offered:
                loss = loss + self._loss_of_own_answers()
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
            self._steps += 1

    def _all_seen(self) -> _Seen:
        """The pixels of all samples, side by side."""
        if self._joined is None:
            columns, classes, counts = zip(*self._seen.values(), strict=True)
            self._joined = _Seen(torch.cat(columns), torch.cat(classes), torch.cat(counts, 1))
        return self._joined

    def finish(self, steps: int) -> None:
        """Take so many steps more and keep the mean of the weights on the way.

        Stochastic weight averaging (Izmailov et al., 2018): the steps' noise is gone.
        """
        parameters = list(self.network.parameters())
        means = [torch.zeros_like(p) for p in parameters]
        rounds = max(1, steps // _AVERAGED)
        for _ in range(rounds):
            self.learn(_AVERAGED)
            for mean, parameter in zip(means, parameters, strict=True):
                mean += parameter.detach() / rounds
        with torch.no_grad():
            for mean, parameter in zip(means, parameters, strict=True):
                parameter.copy_(mean)

    def _loss_of_own_answers(self) -> Tensor:
        """Every member learns what it answers itself, as far as it is sure.

        What all answer together would draw them into the same mistakes.
        """
        groups = torch.randint(len(self._offered), (_GROUPS,), generator=self._random)
        columns = torch.cat([self._offered[i] for i in groups.tolist()]).float()
        with torch.no_grad():
            sure, classes = self.network.of_pixels(columns).softmax(2).max(2)
        return _loss(self.network.of_pixels(self._dropped(columns)), classes, sure.square())

    def _dropped(self, columns: Tensor) -> Tensor:
        """Columns without a random share of their numbers."""
        keep = torch.rand(columns.shape, generator=self._random) >= _DROPOUT
        return columns * keep / (1 - _DROPOUT)

    @torch.no_grad()
    def members(self, pack: Sequence[Tensor]) -> Tensor:
        """The probabilities of every member for a sample, [1, K, C, r, r]; r is R unless R is large.

        Args:
            pack: its features.
        """
        side = min(self.side, _LARGEST_ANSWER)
        members = self.network.of_maps(pack, side).softmax(2)
        return members.transpose(1, 2).unflatten(2, (side, side))[None]

    def answer(self, pack: Sequence[Tensor], image: Tensor) -> Answer:
        """What it makes of a sample, by its features and image, uint8 [3, R, R]."""
        members = self.members(pack)
        classes = together(members, image)[0].argmax(0).to(torch.uint8)
        doubt = _at_size(uncertainty(members)[None] / math.log(2), self.side)
        doubt = (doubt[0, 0].clamp(0, 1) * 255 + 0.5).to(torch.uint8)
        return Answer(classes.numpy(), doubt.numpy())


def together(members: Tensor, image: Tensor) -> Tensor:
    """What members together make of a sample, with borders between classes along the image's edges.

    Args:
        members: probabilities [1, K, C, r, r].
        image: uint8 [3, R, R].

    Returns:
        Probabilities [1, C, R, R].
    """
    small = F.adaptive_avg_pool2d(image[None].float(), members.shape[-1])
    return _at_size(smooth_along_edges(members.mean(1), small), image.shape[-1])


def _at_size(maps: Tensor, side: int) -> Tensor:
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, (side, side), mode="bilinear")


def _loss(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Each member's weighted mean cross-entropy, summed: it learns as if it were alone.

    Args:
        logits: [K, P, C].
        classes: [P] or, for each member its own, [K, P].
        weights: [K, P].
    """
    target = classes.expand(len(logits), -1).reshape(-1)
    wrong = F.cross_entropy(logits.flatten(0, 1), target, reduction="none").view(len(logits), -1)
    return ((wrong * weights).sum(1) / weights.sum(1)).sum()
