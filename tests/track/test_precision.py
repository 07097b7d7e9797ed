"""Less precision and compiled code move boxes by little; what this machine cannot do is refused before it is tried."""

from dataclasses import replace

import numpy as np
import pytest
import recipe
import torch

from workflow_scripts.console import BadInput
from workflow_scripts.track import precision
from workflow_scripts.track.networks import dutrack as networks
from workflow_scripts.track.texts import Tokenizer, small_vocabulary
from workflow_scripts.track.trackers.dutrack import DUTracker

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),  # torch.compile's own
]

SMALL = networks.VARIANTS["dutrack_small"]
TINY = replace(SMALL, depth=1, dim=32, stem_widths=(16, 32), heads=2, mlp_hidden=32, head_widths=(16,))


def network_of(config: networks.DUTrackConfig) -> networks.DUTrack:
    network = networks.build(config)
    recipe.fill(network, "dutrack")
    with torch.no_grad():
        network.get_submodule(f"box_head.conv{len(config.head_widths) + 1}_ctr").weight *= 3  # maps with clear maxima
    return network


def boxes_of(network: networks.DUTrack, frames: int, **how) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [frames, 2, 4] of two sequences set back to the truth before each frame, and by how much each best score leads."""
    tracker = DUTracker(network, Tokenizer(small_vocabulary()), rows=2, **how)
    leads: list[np.ndarray] = []

    def lead(_, __, output):
        best, second = (output.score.float() * tracker.window).flatten(1).topk(2).values.unbind(1)
        leads.append((best - second).numpy())

    hook = network.register_forward_hook(lead) if not how else None
    states = tracker.start([recipe.render(0)[0]] * 2, [np.array(recipe.render(0)[1])] * 2, ["the red square", ""])
    boxes = []
    for i in range(1, frames + 1):
        states, outputs = tracker.step(states, [recipe.render(i)[0]] * 2)
        boxes.append([o.box for o in outputs])
        states = [replace(s, box=np.array(recipe.render(i)[1])) for s in states]
    if hook:
        hook.remove()
    return np.array(boxes), np.array(leads)


@pytest.fixture(scope="module")
def in_full() -> tuple[np.ndarray, np.ndarray]:
    return boxes_of(network_of(SMALL), 14)


@pytest.mark.parametrize(("name", "pixels", "lead"), [("bf16", 0.5, 0.004), ("fp16", 0.1, 0.002)])
def test_half_precision_stays_near_where_the_best_score_leads(in_full, name, pixels, lead) -> None:
    boxes, leads = in_full
    halved, _ = boxes_of(network_of(SMALL), 14, precision=name)
    clear = leads > lead
    assert clear.sum() >= 10
    assert np.abs(halved - boxes)[clear].max() < pixels
    assert np.abs(halved - boxes).max() > 0  # it was another computation


def test_compiled_networks_give_the_same_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network as torch.compile traces it; code is generated for one small function, since each kernel takes seconds."""
    network = network_of(TINY)
    plain, _ = boxes_of(network, 3)
    generate = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, mode: generate(function, backend="aot_eager", fullgraph=True))
    traced, _ = boxes_of(network, 3, compiled=True)
    assert np.abs(plain - traced).max() < 1e-2
    monkeypatch.undo()
    x = torch.linspace(-2, 2, 64)
    compiled = precision.compile_for(torch.device("cpu"), lambda t: torch.sigmoid(t) * 2 + t)
    assert torch.allclose(compiled(x), torch.sigmoid(x) * 2 + x, atol=1e-6)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(BadInput, match=r"need a C\+\+ compiler"):
        DUTracker(network_of(TINY), Tokenizer(small_vocabulary()), compiled=True)


def test_unknown_precisions_and_devices_are_refused() -> None:
    with pytest.raises(BadInput, match="no precision fp8: name one of fp32, bf16, fp16"):
        precision.dtype_of("fp8")
    with pytest.raises(BadInput, match="'gpu' is no device"):
        precision.device_of("gpu")
    with pytest.raises(BadInput, match="no device cuda:77 here"):
        precision.device_of("cuda:77")
