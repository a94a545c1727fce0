"""Segment images with an exported student: `python -m student.predict --model M IMAGES --out D`.

IMAGES are files, folders with all that is in them, zip files, quoted patterns such as 'faces/**/*.jpg',
and videos. Each image's mask is a palette PNG of its name; folders within folders are kept. areas.json
says how much of each image every class takes. Images that cannot be read are named and skipped: exit
code 1 then, 2 where nothing could be begun.

Needs onnxruntime, numpy, Pillow and tqdm, and OpenCV for videos; neither torch nor timm.
"""

import argparse
import os
import sys
from pathlib import Path

from PIL import Image

from common.errors import UserError
from common.files import write_json
from student.predict.job import Job
from student.predict.segmenter import Segmenter
from student.predict.sources import find_sources, targets

AREAS = "areas.json"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    options = _parser().parse_args(arguments)
    Image.MAX_IMAGE_PIXELS = None  # --megapixels is our limit
    try:
        segmenter = Segmenter(options.model, options.threads)
        sources = find_sources(options.images, options.out)
        placed = targets(sources, options.out)
        job = Job(
            segmenter, options.batch_size, options.threads, options.masks, options.overlay,
            options.megapixels,
        )  # fmt: skip
        options.out.mkdir(parents=True, exist_ok=True)
        job.run(placed)
        write_json(options.out / AREAS, {"areas": job.areas, "skipped": job.skipped})
    except (UserError, OSError) as error:  # unreadable images were caught; this one is the output's
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; masks that were written are whole", file=sys.stderr)
        return 130
    for name, why in job.skipped.items():
        print(f"skipped: {name} ({why})", file=sys.stderr)
    done = len(sources) - len(job.skipped)
    print(f"{done} of {len(sources)} segmented into {options.out}, {len(job.skipped)} skipped")
    return 1 if job.skipped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m student.predict", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="files, folders, zip files, patterns, videos"
    )
    parser.add_argument(
        "--model", type=Path, required=True,
        help="folder that the stage export wrote, or an ONNX file in it",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--overlay", action="store_true", help="write tinted images as well")
    parser.add_argument(
        "--no-masks", dest="masks", action="store_false", help="write no masks, only areas.json"
    )
    parser.add_argument(
        "--batch-size", type=_count, default=8, help="most images segmented at once (default: 8)"
    )
    parser.add_argument(
        "--threads", type=_count, default=_cores(), help="number of threads (default: all cores)"
    )
    parser.add_argument(
        "--megapixels", type=float, default=200, help="skip larger images (default: 200)"
    )
    return parser


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def _cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
