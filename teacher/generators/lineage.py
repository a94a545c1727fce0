"""Which generators a generator descends from: a training may begin with an earlier one's weights.

A descendant draws other images, but its features keep their meaning, so that a teacher which was trained on
those of an ancestor can read them.
"""

from pathlib import Path
from typing import Any

from common.errors import UserError
from common.stage_folder import artifact_hash, is_stage_folder, read_manifest


def lineage(generator: Path) -> tuple[str, ...]:
    """Hashes of a generator and of those that its training began with, newest first.

    Raises:
        UserError: its folder is damaged.
    """
    own = (artifact_hash(generator),)
    if not generator.is_dir() or not is_stage_folder(generator):
        return own
    recorded: Any = read_manifest(generator)["figures"].get("ancestors", [])
    if not isinstance(recorded, list):
        raise UserError(
            f"{generator} does not say what it was made from; copy the whole folder again."
        )
    return (*own, *map(str, recorded))


def require_kin(teacher: Path, generator: Path) -> None:
    """Check that a teacher can read a generator's features: it learned on this one, or on an ancestor.

    Raises:
        UserError: it learned on another one.
    """
    learned_on = read_manifest(teacher)["inputs"].get("generator")
    if learned_on not in lineage(generator):
        raise UserError(
            f"{teacher} was trained on the features of another generator than {generator} or those that it "
            "was made from; name a teacher of this generator, or leave sources.teacher out and train one."
        )
