"""What runs the student in a browser: ONNX Runtime's own build for it, which npm fetches.

It is no part of the repository. The version is pinned, and so is what the package holds.
"""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from common.errors import UserError

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# The least of its builds: processor alone, no WebGPU. It works in one thread where pages may have no more.
SCRIPT = "package/dist/ort.wasm.bundle.min.mjs"
BINARY = "package/dist/ort-wasm-simd-threaded.wasm"


@dataclass(frozen=True)
class Runtime:
    """Its JavaScript module and its WebAssembly."""

    script: bytes
    binary: bytes


def fetch_runtime() -> Runtime:
    """Have npm fetch the package, from its cache where it is there.

    Raises:
        UserError: there is no npm, it cannot reach its registry, or the package is another one.
    """
    name = f"{PACKAGE}@{VERSION}"
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"the page of export.web needs {name}, and there is no npm to fetch it: install Node.js with "
            "npm, or leave --web out; the page can be added to a finished export later."
        )
    with TemporaryDirectory() as folder:
        command = [npm, "pack", name, "--prefer-offline", "--fetch-retries", "1"]
        command += ["--loglevel", "error", "--pack-destination", folder]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if made.returncode:
            said = next(iter(made.stderr.strip().splitlines()), "no reason given")
            raise UserError(
                f"npm cannot fetch {name} for the page of export.web ({said}): connect to the network, "
                "or leave --web out; the page can be added to a finished export later."
            )
        package = (Path(folder) / f"{PACKAGE}-{VERSION}.tgz").read_bytes()
    return unpack(package)


def unpack(package: bytes) -> Runtime:
    """The two files of the package that the page needs.

    Raises:
        UserError: it is not the one that was pinned.
    """
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != SHA512:
        raise UserError(
            f"what npm gave as {PACKAGE}@{VERSION} is not the package that was pinned; look at the "
            "registry that npm is set to, and run `npm cache clean --force`."
        )
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        script, binary = (archive.extractfile(name) for name in (SCRIPT, BINARY))
        assert script is not None and binary is not None
        return Runtime(script.read(), binary.read())
