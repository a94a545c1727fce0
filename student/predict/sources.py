"""Images as people have them: files, folders, patterns and zip files; read as RGB.

Needs numpy and Pillow; imports neither torch nor timm.
"""

import glob
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from common.archives import LARGEST, why_unreadable
from common.errors import UserError, brief
from common.images import SUFFIXES, Array, UnreadableImage, read_rgb

VIDEOS = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"}


@dataclass(frozen=True)
class Source:
    """One image or video.

    Attributes:
        path: the file, or the zip file that it is in.
        name: where its mask goes, relative to the output and with its suffix: `folder/image.jpg`.
        member: its name in the zip file.
    """

    path: Path
    name: PurePosixPath
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def is_video(self) -> bool:
        return self.name.suffix.lower() in VIDEOS

    def read(self, megapixels: float) -> Array:
        """The image as RGB, uint8 [H, W, 3]; the first of several in one file.

        Raises:
            UnreadableImage: it cannot be read.
        """
        if self.member is None:
            return read_rgb(self.path, megapixels)
        archive = _archive(self.path)
        if archive.getinfo(self.member).file_size > LARGEST:
            raise UnreadableImage("unpacks to more than 1 GiB")
        try:
            content = archive.read(self.member)
        except Exception as error:  # zipfile and its decompressors raise anything on damaged files
            raise UnreadableImage(f"it {why_unreadable(error)}") from error
        return read_rgb(content, megapixels)


@lru_cache(4)
def _archive(path: Path) -> zipfile.ZipFile:
    """An open zip file; threads share it, since its list of members takes long to read."""
    return zipfile.ZipFile(path)


def find_sources(given: Sequence[str], out: Path) -> list[Source]:
    """The sources that the command's arguments name, in order; folders with all that is in them.

    Args:
        out: the folder for masks; what lies in it is not taken for an image.

    Raises:
        UserError: an argument names nothing.
    """
    sources: list[Source] = []
    for text in given:
        path = Path(text)
        found = [path] if path.exists() else sorted(map(Path, glob.glob(text, recursive=True)))
        if not found:
            what = "matches no file" if glob.has_magic(text) else "does not exist"
            raise UserError(f"{text} {what}; name images, folders, zip files or a quoted pattern.")
        for one in found:
            inside = list(_inside(one, out))
            if not inside:
                raise UserError(f"{one} holds no images ({', '.join(sorted(SUFFIXES))}).")
            sources += inside
    return sources


def _inside(path: Path, out: Path) -> Iterator[Source]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = PurePosixPath(file.relative_to(path).as_posix())
            if _is_source(name) and file.is_file() and not _lies_in(file, out, path):
                yield Source(file, name)
    elif path.suffix.lower() == ".zip":
        yield from _members(path)
    else:
        yield Source(path, PurePosixPath(path.name))


def _lies_in(file: Path, out: Path, folder: Path) -> bool:
    """Whether an earlier call wrote the file. A folder that is its own output is refused later."""
    out = out.resolve()
    return out != folder.resolve() and file.resolve().is_relative_to(out)


def _members(path: Path) -> Iterator[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except Exception as error:  # zipfile raises anything on a damaged directory
        raise UserError(f"{path} is no readable zip file ({brief(error)}).") from error
    for member in members:
        parts = [p for p in PurePosixPath(member.replace("\\", "/")).parts if p not in ("/", "..")]
        name = PurePosixPath(*parts)  # nothing is written outside the output
        if _is_source(name) and name.suffix.lower() not in VIDEOS:
            yield Source(path, name, member)


def _is_source(name: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return not hidden and name.suffix.lower() in SUFFIXES | VIDEOS


def targets(sources: Sequence[Source], out: Path) -> dict[Source, Path]:
    """Where each mask goes, without a suffix: `out/folder/image`, none twice, none over an image.

    Two images of one folder that differ only by their suffix keep it: `image.jpg`, `image.png`.

    Raises:
        UserError: masks would overwrite each other or an image.
    """
    stems: dict[str, int] = {}
    for source in sources:
        key = str(source.name.with_suffix("")).lower()  # many file systems ignore case
        stems[key] = stems.get(key, 0) + 1
    placed: dict[Source, Path] = {}
    taken: dict[str, Source] = {}
    images = {source.path.resolve() for source in sources}
    for source in sources:
        stem = source.name.with_suffix("")
        stem = source.name if stems[str(stem).lower()] > 1 else stem
        for written in (f"{stem}.png", f"{stem}_overlay.png"):
            if other := taken.get(written.lower()):
                raise UserError(
                    f"the masks of {other} and {source} would both be {written}: segment them into "
                    "different folders."
                )
            taken[written.lower()] = source
            if (out / written).resolve() in images:
                raise UserError(
                    f"{out / written} is an image and would be overwritten; choose another --out."
                )
        placed[source] = out / stem
    return placed
