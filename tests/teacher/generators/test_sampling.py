"""Samples by number, the choice among them, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.stage_folder import artifact_hash
from datasets.annotations import INDEX, LATENTS, read_annotated
from datasets.labels import LabelSet
from teacher.generators import choosing
from teacher.generators.base import Latents, noise_names
from teacher.generators.choosing import choose_samples
from teacher.generators.registry import load_generator
from teacher.generators.sampling import draw, feature_stds, latents_of_seed, to_uint8
from tests.conftest import ROOT, Chain, run_cli


def test_a_sample_depends_on_seed_and_index_alone(chain: Chain) -> None:
    generator = load_generator(chain.generator)
    latents = latents_of_seed(generator, 3, 0.7)
    together, alone = draw(generator, latents, list(range(40))), draw(generator, latents, [35])
    assert torch.allclose(together.latents["w"][35], alone.latents["w"][0], atol=1e-6)
    for name in noise_names(together.latents):
        assert torch.equal(together.latents[name][35], alone.latents[name][0])
    assert (together.images[35].int() - alone.images[0].int()).abs().max() <= 1
    other = draw(generator, latents_of_seed(generator, 4, 0.7), [35])
    assert not torch.equal(together.latents["w"][35], other.latents["w"][0])


def test_annotated_samples_remake_their_images_exactly(chain: Chain, labels: LabelSet) -> None:
    """What the folder keeps gives back the image, so it gives back the features."""
    generator = load_generator(chain.generator)
    samples, masks = read_annotated(chain.folder / "train", labels, artifact_hash(chain.generator))
    image, _ = generator.synthesise(samples.latents)
    assert torch.equal(to_uint8(image), samples.images)
    assert masks.shape == samples.images[:, 0].shape


def test_samples_of_another_generator_are_refused(chain: Chain, labels: LabelSet) -> None:
    with pytest.raises(UserError, match="another generator"):
        read_annotated(chain.folder / "train", labels, "0" * 64)


def test_damaged_and_missing_parts_are_named(
    chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    source = artifact_hash(chain.generator)
    run_cli("sample", "--config", chain.config, "--count", 2, "--out", tmp_path / "s")
    with pytest.raises(UserError, match=r"masks/0000\.png does not exist"):
        read_annotated(tmp_path / "s", labels, source)
    latents = tmp_path / "s" / LATENTS
    latents.write_bytes(latents.read_bytes()[:50])
    with pytest.raises(UserError, match=r"latents\.safetensors cannot be read"):
        read_annotated(tmp_path / "s", labels, source)


def test_chosen_samples_are_recorded_and_differ(chain: Chain, tmp_path: Path) -> None:
    made = run_cli(
        "sample", "--config", chain.config, "--count", 30, "--choose", 4,
        "--out", tmp_path / "s",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    index = json.loads((tmp_path / "s" / INDEX).read_text())
    assert index["count"] == 4
    assert len(set(index["origin"]["indices"])) == 4
    again = run_cli("sample", "--config", chain.config, "--count", 3, "--out", tmp_path / "s")
    assert again.returncode == 2
    assert "holds samples already" in again.stderr


def test_the_choice_prefers_the_many_over_the_odd(chain: Chain) -> None:
    """Of many alike samples and one far away, the odd one is never the first choice."""
    generator = load_generator(chain.generator)
    common, far = latents_of_seed(generator, 0, 0.3), latents_of_seed(generator, 9, 6.0)

    def latents(numbers: Sequence[int]) -> Latents:
        made = common(numbers)
        if 5 in numbers:
            made["w"][list(numbers).index(5)] = far([0])["w"][0]
        return made

    assert 5 not in choose_samples(generator, latents, list(range(24)), 2, parts=6)


def test_wide_features_are_projected_so_that_distances_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thousands of channels shrink to a few dimensions, and pixels are as near to each other as before."""
    generator = load_generator(ROOT / "assets/faces64/generator")
    latents, numbers = latents_of_seed(generator, 0, 1.0), list(range(4))
    features = generator.synthesise(latents(numbers))[1]
    distances = []
    for dimensions in (128, 64):  # of 224 channels, which are projected to fewer than half of them
        monkeypatch.setattr(choosing, "_PROJECTED", dimensions)
        pixels = choosing.PixelFeatures(64)(features).flatten(0, 1)[::11]
        if dimensions == 128:
            assert pixels.shape[1] == 224
            pixels = pixels / pixels.std(0)
        else:
            assert pixels.shape[1] == 64
        distances.append(torch.pdist(pixels))
    assert float(torch.corrcoef(torch.stack(distances))[0, 1]) > 0.9
    monkeypatch.setattr(choosing, "_PROJECTED", 8)
    assert len(set(choose_samples(generator, latents, numbers, 3, parts=6))) == 3


def test_broken_generators_are_named(tmp_path: Path, chain: Chain) -> None:
    with pytest.raises(UserError, match=r"generator\.json cannot be read"):
        load_generator(tmp_path)
    for name in ("generator.json", "generator.safetensors"):
        (tmp_path / name).write_bytes((chain.generator / name).read_bytes())
    about = json.loads((tmp_path / "generator.json").read_text())
    (tmp_path / "generator.json").write_text(json.dumps(about | {"mapping_layers": 3}))
    with pytest.raises(UserError, match=r"mapping_layers\.2"):
        load_generator(tmp_path)
    (tmp_path / "generator.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match=r"generator\.safetensors cannot be read"):
        load_generator(tmp_path)


def test_deviations_are_those_of_the_features_of_random_samples(chain: Chain) -> None:
    generator = load_generator(chain.generator)
    samples = draw(generator, latents_of_seed(generator, 3, 1.0), list(range(40)))
    features = generator.synthesise(samples.latents)[1]
    found = feature_stds(generator, 3, 40)  # more than are drawn at once
    for deviations, maps in zip(found, features, strict=True):
        direct = maps.transpose(0, 1).flatten(1).std(1, correction=0)
        assert torch.allclose(deviations, direct, rtol=1e-3, atol=1e-5)
