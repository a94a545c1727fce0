"""Which of timm's models can be a student's encoder? One small member of each family, and well-known ones.

    python benchmarks/encoders.py                                  # an hour or two on one core
    python benchmarks/encoders.py --models resnet18 --again        # these, also if they are known
    python benchmarks/encoders.py --table                          # the table of docs/encoders.md

Each is built for the resolution, learns one step by the stage's own code, is exported to ONNX, and its
label maps in ONNX Runtime are compared with PyTorch's on rendered faces of several sizes. Weights are
random. Every model has a process and one thread of its own, and a time limit. Results are kept after
every model; the same command goes on where it was.
"""

import argparse
import json
import multiprocessing
import platform
import re
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
import timm
import torch
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.checkpoints import save_weights
from common.errors import UserError
from common.files import read_json, write_json
from datasets.batches import EndlessBatches
from datasets.faces import RenderedFaces, render_faces
from datasets.labels import LabelSet
from datasets.transforms import Augmentation, Augmented, Exact
from student.base import NetworkConfig, for_images_of
from student.data import batches
from student.export.deploy import Deployed, labels_of
from student.export.formats.onnx import run_onnx
from student.export.graph import trace
from student.learner import StudentLearner
from student.network import ARCHITECTURE, WEIGHTS, build_student, load_student, student_json
from student.recipe import StudentStage

ROOT = Path(__file__).resolve().parent.parent
LABELS = LabelSet.load(ROOT / "configs/labels/face8.yaml")
RESULTS = ROOT / "benchmarks/results/encoders.json"
# Beside the smallest of each family, at the resolutions that the command names.
WELL_KNOWN = (
    "resnet18", "resnet50", "mobilenetv4_conv_small_050", "convnext_tiny", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256", "maxvit_nano_rw_256", "coatnet_nano_rw_224", "hiera_tiny_224",
    "efficientformer_l1", "vit_tiny_patch16_224", "vit_base_patch32_224", "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "beit_base_patch16_224",
    "deit3_small_patch16_224",
)  # fmt: skip
# Their size or their windows hang on the images' size: these are tried at 256 pixels too.
LARGE = (
    "swinv2_tiny_window8_256", "maxvit_nano_rw_256", "coatnet_nano_rw_224", "hiera_tiny_224",
    "efficientformer_l1", "vit_small_patch14_dinov2", "eva02_tiny_patch14_224", "beit_base_patch16_224",
    "levit_128s",
)  # fmt: skip


def smallest(family: str) -> tuple[str, int]:
    """The member of fewest parameters, but for timm's own test models, and the number of members."""
    members = timm.list_models(module=family)
    counts = {}
    for name in members:
        if name.startswith("test_"):
            continue
        try:
            with torch.device("meta"):
                counts[name] = sum(p.numel() for p in timm.create_model(name).parameters())
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            continue  # it computes with its weights while it is built, or is an old name of another
    return (min(counts, key=lambda n: counts[n]) if counts else members[0]), len(members)


def tried(name: str, resolution: int) -> dict[str, Any]:
    """What a model does, step by step, until one is refused."""
    row: dict[str, Any] = {}
    for levels in (4, 3, 2):  # some families have fewer than four maps
        row = {"step": "build", "levels": levels}
        try:
            _try_steps(name, resolution, row)
            return row | {"works": row["agreement"] >= 0.999}
        except UserError as error:
            row |= {"works": False, "sentence": str(error)}
        except Exception as error:  # nothing but a sentence should come out
            row |= {"works": False, "sentence": f"{type(error).__name__}: {error}"[:400]}
        if row["step"] != "build":
            break
    return row


def _try_steps(name: str, resolution: int, row: dict[str, Any]) -> None:
    """Build, learn, export, compare; writes what is found into the row."""
    recipe = StudentStage(
        network=NetworkConfig(name, levels=row["levels"]), batch_size=4, steps=2, warmup_steps=1
    )
    accelerator = Accelerator(cpu=True)
    build = for_images_of(resolution, build_student)
    learner = StudentLearner(recipe, LABELS, accelerator, build)
    network: Any = learner.network
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    row |= {
        "encoder_size": network.encoder_size,
        "strides": network.strides,
        "parameters": sum(p.numel() for p in network.encoder.parameters()),
        "step": "learn",
    }
    faces = Exact(RenderedFaces(0, 8, resolution, labels=LABELS))
    augmented = Augmented(faces, Augmentation(), LABELS.ignore_index, 0)
    batch = next(batches(augmented, EndlessBatches(8, 4, 0, 1, 0, 0, 1), 0))
    learner.loss(batch, 0).backward()  # type: ignore[no-untyped-call]
    row["silent"] = sum(p.grad is None for p in encoder)
    network.zero_grad()
    row["loss"] = float(learner.step(0, batch)[0])

    row["step"], shares = "load", []
    with TemporaryDirectory() as name_of_folder, torch.no_grad():
        folder = Path(name_of_folder)
        save_weights(folder / WEIGHTS, network.state_dict())
        write_json(folder / ARCHITECTURE, student_json(network.config, LABELS.names, resolution))
        student, _ = load_student(folder)
        row["step"] = "export"
        deployed = Deployed(student, resolution).eval()
        (folder / "student.onnx").write_bytes(trace(deployed).onnx.SerializeToString())
        run, row["step"] = run_onnx(folder / "student.onnx"), "agree"
        for side, count in ((resolution, 4), (2 * resolution, 2), (resolution - 3, 1)):
            images = render_faces(1, torch.arange(count), side)[0].permute(0, 2, 3, 1).contiguous()
            agreed = run(images) == labels_of(deployed(images))
            shares.append(float(agreed.double().mean()))
    row |= {"agreement": min(shares), "step": "done"}


def in_a_process(name: str, resolution: int, limit: float) -> dict[str, Any]:
    """`tried` in a process of its own, which may crash or be too slow."""
    fork = multiprocessing.get_context("fork")  # it has imported everything already
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: theirs.send(tried(name, resolution)))
    begun = time.monotonic()
    process.start()
    theirs.close()
    row: dict[str, Any] = {"works": False, "sentence": f"not done after {limit:.0f} s"}
    try:
        if ours.poll(limit):
            row = ours.recv()
    except EOFError:
        process.join()
        row["sentence"] = f"the process ended with {process.exitcode}"
    process.kill()
    process.join()
    return row | {"seconds": round(time.monotonic() - begun, 1)}


def jobs(options: argparse.Namespace, known: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Models and resolutions to try."""
    if options.models:
        yield from ((name, options.resolution) for name in options.models)
        return
    families = [about["smallest"] for about in known["families"].values()]
    yield from ((name, options.resolution) for name in dict.fromkeys([*families, *WELL_KNOWN]))
    yield from ((name, 256) for name in LARGE)


def sweep(options: argparse.Namespace) -> None:
    """Try all that are not known yet, and keep each result."""
    known = read_json(options.out) if options.out.exists() else {"families": {}, "results": {}}
    known["made_with"] = {
        "timm": timm.__version__, "torch": torch.__version__, "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__, "python": platform.python_version(),
        "machine": machine(), "threads": 1, "limit_s": options.limit,
    }  # fmt: skip
    for family in () if options.models else timm.list_modules():
        if family not in known["families"]:
            name, members = smallest(family)
            known["families"][family] = {"smallest": name, "members": members}
            write_json(options.out, known)
    for name, resolution in jobs(options, known):
        key = f"{name}@{resolution}"
        if key in known["results"] and not options.again:
            continue
        row = in_a_process(name, resolution, options.limit)
        known["results"][key] = {"model": name, "resolution": resolution, **row}
        write_json(options.out, known)
        print(key, json.dumps(row), flush=True)


def machine() -> str:
    """The processor's name."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*: (.*)", text)
    return found.group(1) if found else platform.machine()


def table(known: dict[str, Any]) -> Iterator[str]:
    """The lines of the table of docs/encoders.md."""
    family_of = {name: f for f in known["families"] for name in timm.list_models(module=f)}
    family_of |= {about["smallest"]: f for f, about in known["families"].items()}  # old names too
    yield "| family | model | images | levels | encoder sees | strides | parameters | works |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in sorted(known["results"].values(), key=lambda r: (r["resolution"], r["model"])):
        name, side = row["model"], row["resolution"]
        family = family_of.get(name, "")
        size = row.get("encoder_size")
        sees = f"{size} px" if size else "any size" if "strides" in row else ""
        strides = ", ".join(map(str, row.get("strides", ())))
        millions = f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else ""
        works = "yes" if row["works"] else "no"
        yield (
            f"| {family} | `{name}` | {side} px | {row.get('levels', '')} | {sees} | {strides} | "
            f"{millions} | {works} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", help="try these alone")
    parser.add_argument("--resolution", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one model")
    parser.add_argument("--again", action="store_true", help="try known ones again")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results are kept")
    parser.add_argument("--table", action="store_true", help="print the table of the results")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(read_json(options.out))))
    else:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        sweep(options)


if __name__ == "__main__":
    main()
