"""What every student must do, whatever its encoder and its decoder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from common.errors import UserError
from common.files import write_json
from student.base import NetworkConfig, Student
from student.decoders import DECODERS
from student.export.deploy import Deployed, labels_of
from student.export.formats import EXPORT_FORMATS
from student.export.graph import trace
from student.network import ARCHITECTURE, WEIGHTS, build_student, load_student, student_json


def compiled(student: Student) -> Callable[[Tensor], Tensor]:
    """Captured as one graph; by the backend that needs no C++ compiler."""
    torch.compiler.reset()
    return torch.compile(student, backend="aot_eager", fullgraph=True)


class StudentContract:
    """Subclasses name an encoder of one family; every decoder is tried on each."""

    config: NetworkConfig
    resolution: int | None = None

    @pytest.fixture(scope="class", params=sorted(DECODERS))
    @classmethod
    def student(cls, request: pytest.FixtureRequest) -> Student:
        torch.manual_seed(0)
        return build_student(replace(cls.config, decoder=request.param), 5, cls.resolution).eval()

    @pytest.mark.parametrize("size", [(64, 64), (32, 96), (37, 53), (100, 64)])
    def test_logits_at_the_images_size(self, student: Student, size: tuple[int, int]) -> None:
        with torch.no_grad():
            logits = student(torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8))
        assert logits.shape == (1, 5, *size)
        assert logits.isfinite().all()

    def test_images_of_a_batch_do_not_mix(self, student: Student) -> None:
        images = torch.randint(0, 256, (3, 3, 48, 64), dtype=torch.uint8)
        with torch.no_grad():
            together, alone = student(images), student(images[[1]])
        assert torch.allclose(together[1], alone[0], atol=1e-4)

    @pytest.mark.parametrize("decoder", sorted(DECODERS))
    def test_every_parameter_learns(self, decoder: str) -> None:
        student = build_student(replace(self.config, decoder=decoder), 4, self.resolution)
        student(torch.rand(2, 3, 64, 64) * 255).square().mean().backward()
        silent = [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]
        assert silent == []  # several processes would wait for their gradients

    def test_saved_and_loaded_it_is_the_same(self, student: Student, tmp_path: Path) -> None:
        weights = {k: v.contiguous() for k, v in student.state_dict().items()}
        save_file(weights, tmp_path / WEIGHTS)
        write_json(tmp_path / ARCHITECTURE, student_json(student.config, tuple("abcde"), 64))
        loaded, about = load_student(tmp_path)
        images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.equal(loaded(images), student(images))
        assert about["resolution"] == 64

    def test_compiled_it_is_the_same(self, student: Student) -> None:
        images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.allclose(compiled(student)(images), student(images), atol=1e-4)

    def test_deployed_it_is_the_same_at_any_size(self, student: Student, tmp_path: Path) -> None:
        """As the stage `export` deploys it, in every format that is exact."""
        deployed = Deployed(student.requires_grad_(False), 64)  # as `load_student` gives it
        traced = trace(deployed)
        exact = [form for form in EXPORT_FORMATS.values() if form.exact]
        for form in exact:
            form.write(traced, tmp_path / form.file)
        files = [form.run(tmp_path / form.file) for form in exact]
        for size in ((3, 64, 64), (1, 64, 64), (1, 1, 90), (2, 131, 70)):
            images = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
            mine = labels_of(deployed(images))
            for run in files:
                assert (run(images) == mine).double().mean() > 0.999


class TestRegNet(StudentContract):
    config = NetworkConfig("regnetx_002", levels=3, decoder_width=8, detail_channels=4)

    def test_compiled_it_takes_other_sizes_too(self, student: Student) -> None:
        fast = compiled(student)
        with torch.no_grad():
            for size in ((64, 64), (40, 72)):
                images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
                assert torch.allclose(fast(images), student(images), atol=1e-4)


class TestHalfSize(StudentContract):
    """The decoder ends at half of the image's size."""

    config = NetworkConfig(
        "regnetx_002", levels=3, decoder_width=8, detail_channels=4, output_stride=2
    )


class TestMobileNet(StudentContract):
    config = NetworkConfig(
        "mobilenetv4_conv_small_050", levels=3, decoder_width=8, detail_channels=4
    )


class TestConvNeXt(StudentContract):
    config = NetworkConfig(
        "convnext_atto", levels=3, decoder_width=8, detail_channels=4, output_stride=4
    )


class TestVisionTransformer(StudentContract):
    config = NetworkConfig("vit_tiny_patch16_224", levels=2, decoder_width=8, detail_channels=4)


class TestSwin(StudentContract):
    """Its maps come channels-last."""

    config = NetworkConfig(
        "swin_tiny_patch4_window7_224", levels=2, decoder_width=8, detail_channels=4
    )


class TestPatchesThatDoNotDivide(StudentContract):
    """Images are resized to three patches of 16."""

    config = NetworkConfig("test_vit", levels=2, decoder_width=8, detail_channels=4)
    resolution = 40


class TestOneSize(StudentContract):
    """Its windows are built for one size."""

    config = NetworkConfig("test_maxvit", levels=3, decoder_width=8, detail_channels=4)
    resolution = 64


SMALL = NetworkConfig("resnet10t", levels=2, decoder_width=8, detail_channels=4)


@pytest.mark.parametrize("output_stride", [0, 3, 4])
def test_an_output_stride_between_the_encoders_is_refused(output_stride: int) -> None:
    with pytest.raises(UserError, match=r"student\.network\.output_stride is .*choose a divisor"):
        build_student(NetworkConfig("regnetx_002", levels=3, output_stride=output_stride), 4)


def test_an_unknown_decoder_is_named_beside_those_there_are() -> None:
    with pytest.raises(UserError, match=r"student\.network\.decoder 'wide_unet'.* narrow_unet"):
        build_student(replace(SMALL, decoder="wide_unet"), 4)


def test_a_student_of_an_older_version_ends_with_a_remedy(tmp_path: Path) -> None:
    about: dict[str, Any] = student_json(SMALL, tuple("abc"), 16)
    about["network"]["width"] = about["network"].pop("decoder_width")
    write_json(tmp_path / ARCHITECTURE, about)
    with pytest.raises(UserError, match=r"older version \(it has width\); train the student again"):
        load_student(tmp_path)
