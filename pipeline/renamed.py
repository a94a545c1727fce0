"""Options that had another name: an old one is refused with the new one in the message."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError

# Old name -> new name; what begins with an old name is meant as well.
RENAMED = {
    "encoder": "inversion_encoder",
    "export.agreement": "export.min_agreement",
    "export.calibration": "export.calibration_images",
    "export.int8_loss": "export.int8_max_loss",
    "compare.frozen": "compare.frozen_features",
    "compare.held_out": "compare.held_out_images",
    "compare.inverted": "compare.inversion_images",
    "compare.maps": "compare.perceptual_network",
    "compare.shown": "compare.shown_images",
    "compare.supervised": "compare.supervised_images",
    "compare.timed": "compare.timed_images",
    "generator.architecture": "generator.network",
    "generator.augment": "generator.ada",
    "generator.augment_images": "generator.ada_images",
    "generator.augment_target": "generator.ada_target",
    "generator.batch": "generator.batch_size",
    "generator.bf16": "generator.precision",
    "generator.discriminator_rate": "generator.discriminator_learning_rate",
    "generator.frechet_count": "generator.frechet_images",
    "generator.gamma": "generator.r1_gamma",
    "generator.noise_rate": "generator.noise_lr_factor",
    "generator.rate": "generator.learning_rate",
    "guess": "inversion_encoder_folder",
    "label.batch": "label.batch_size",
    "label.drop": "label.drop_uncertain",
    "label.per_shard": "label.shard_size",
    "maps": "perceptual_network",
    "student.accumulate": "student.grad_accumulation_steps",
    "student.batch": "student.batch_size",
    "student.clip": "student.grad_clip_norm",
    "student.confidence": "student.confidence_power",
    "student.dice": "student.dice_weight",
    "student.ema": "student.ema_decay",
    "student.evaluate_every": "student.val_every",
    "student.held_back": "student.val_images",
    "student.lovasz": "student.lovasz_weight",
    "student.network.detail": "student.network.detail_channels",
    "student.network.width": "student.network.decoder_width",
    "student.rate": "student.learning_rate",
    "student.warm_up": "student.warmup_steps",
    "teacher.balance": "teacher.standardise",
    "teacher.clip": "teacher.grad_clip_norm",
    "teacher.decay_after": "teacher.lr_decay_epoch",
    "teacher.dice": "teacher.dice_weight",
    "teacher.draw": "teacher.shots_seed",
    "teacher.evaluate_every": "teacher.val_every",
    "teacher.mix_from": "teacher.style_mixing_from",
    "teacher.network.dropout": "teacher.network.channel_dropout",
    "teacher.network.features": "teacher.network.feature_maps",
    "teacher.network.slope": "teacher.network.negative_slope",
    "teacher.rate": "teacher.learning_rate",
}
_INVERSION = {
    "noise_penalty": "noise_regularisation",
    "noise_rate": "noise_learning_rate",
    "perceptual": "perceptual_weight",
    "pull": "mean_weight",
    "rate": "learning_rate",
    "starts": "random_starts",
}
_INVERSION_ENCODER = {
    "batch": "batch_size",
    "clip": "grad_clip_norm",
    "ema": "ema_decay",
    "evaluate_every": "val_every",
    "held_back": "val_images",
    "network": "backbone",
    "rate": "learning_rate",
    "warm_up": "warmup_steps",
}
for _place in ("inversion", "compare.inversion"):
    RENAMED |= {f"{_place}.{old}": f"{_place}.{new}" for old, new in _INVERSION.items()}
for _place in ("encoder", "inversion_encoder"):
    RENAMED |= {
        f"{_place}.{old}": f"inversion_encoder.{new}" for old, new in _INVERSION_ENCODER.items()
    }


def refuse_old_names(arguments: Sequence[str]) -> None:
    """Look for old names on the command line.

    Raises:
        UserError: there is one; it says the new one.
    """
    if list(arguments[:1]) == ["encoder"]:
        raise UserError("the stage `encoder` is now `inversion_encoder`.")
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and (new := _new_name(name)):
            raise UserError(f"--{name} is now --{new}.")


def refuse_old_keys(path: Path, content: dict[str, Any]) -> None:
    """Look for old names in a config file.

    Raises:
        UserError: there is one; it says the new one.
    """
    for name in dotted_names(content):
        if name.startswith("sources.test_sets.") and name.endswith(".pictures"):
            raise UserError(f"{path}: {name} is now {name.removesuffix('pictures')}images.")
        if new := _new_name(name):
            raise UserError(f"{path}: {name} is now {new}.")


def _new_name(name: str) -> str | None:
    """The new name of an option, if it has an old one or lies below one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        if new := RENAMED.get(".".join(parts[:count])):
            return ".".join([new, *parts[count:]])
    return None


def dotted_names(node: Any, prefix: str = "") -> Iterator[str]:
    """Names of everything in a config, as on the command line."""
    if isinstance(node, dict):
        for key, value in node.items():
            name = f"{prefix}{key}"
            yield name
            yield from dotted_names(value, f"{name}.")
