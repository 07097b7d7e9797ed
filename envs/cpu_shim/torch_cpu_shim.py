"""Lets the package index's torchvision and torchaudio import beside a CPU build of torch.

Their compiled halves want CUDA's libraries. torchvision survives that but then registers fake kernels for operators nobody
declared: the two are declared here, just before it is imported. torchaudio does not survive it: its extension module is
replaced by the form it has in a build without one. Loaded by a .pth file at start-up; costs nothing until either package is
imported, does nothing where torch was built with CUDA. Operators that need the compiled half still fail when called.
"""

import importlib.abc
import importlib.util
import sys

_libraries = []  # a torch.library.Library undeclares its operators when it is collected


def _is_cpu_build():
    import torch

    return torch.version.cuda is None


class _NoExtension(importlib.abc.Loader):
    """torchaudio._extension as it is in a build without the extension."""

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        def unavailable(*_args, **_kwargs):
            raise RuntimeError("torchaudio's compiled operators are not available in a CPU environment")

        module._IS_TORCHAUDIO_EXT_AVAILABLE = False
        module._IS_ALIGN_AVAILABLE = False
        module._check_cuda_version = lambda: None
        module.fail_if_no_align = lambda _function: unavailable
        module.__path__ = []


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and not _libraries and _is_cpu_build():
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _libraries.append(library)
        elif name == "torchaudio._extension" and _is_cpu_build():
            return importlib.util.spec_from_loader(name, _NoExtension(), is_package=True)
        return None


sys.meta_path.insert(0, _Finder())
