"""The profile counts what the networks do, leaves the tracker as it was, and refuses what has no network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_scripts.track import profile
from workflow_scripts.track.networks.seqtrack import CONFIGS, SeqTrack

ROOT = Path(__file__).resolve().parents[2]


def costs_of(name: str) -> list[profile.Cost]:
    tracker = profile.build(name, None, None, "lasot", "cpu")
    tracker.network.requires_grad_(False)
    before = {key: value for key, value in vars(tracker).items() if callable(value)}
    costs = profile.profile(tracker, batches=[1, 2], precisions=["fp32"], repeats=1, size=(320, 240), device="cpu")
    assert {key: value for key, value in vars(tracker).items() if callable(value)} == before
    return costs


def test_multiply_accumulates_of_seqtrack_are_those_of_its_layers() -> None:
    first, later = costs_of("seqtrack_small")[:2]
    n, nz, d, depth, c, ff, words = 64, 16, 128, 4, 128, 256, 102
    stem = 3 * 16 * 48 * 32**2 + 48 * 9 * 96 * 16**2 + 96 * 9 * d * 8**2  # of the search region

    def encoder(tokens: int) -> int:
        block = 8 * d * d * tokens + 2 * d * tokens * tokens
        last = 2 * d * d * tokens + 6 * d * d * n + 2 * d * n * tokens
        return (depth - 1) * block + last + stem

    memory = 2 * 2 * c * c * n
    word = 2 * (4 * c * c + 2 * c * c + 2 * c * n + 2 * c * ff) + 2 * c * c + c * words
    decoder = memory + 4 * word + 2 * 2 * c * (1 + 2 + 3 + 4)
    assert first.giga_macs == pytest.approx((encoder(n + nz) + decoder) / 1e9, rel=1e-6)
    assert later.giga_macs == pytest.approx((encoder(n + 2 * nz) + decoder) / 1e9, rel=1e-6)


@pytest.mark.parametrize("name", ["seqtrack_small", "dutrack_small"])
def test_every_moment_and_batch_is_measured_with_its_parts(name: str) -> None:
    costs = costs_of(name)
    assert [c.batch for c in costs] == [1, 1, 2, 2]
    assert costs[0].giga_macs == costs[2].giga_macs < costs[1].giga_macs  # a figure of one sequence, whatever the batch
    for cost in costs:
        assert cost.frames_per_second == pytest.approx(1e3 * cost.batch / cost.milliseconds)
        assert {"crop", "normalise", "search stem", "rest"} <= set(cost.parts) and min(cost.parts.values()) >= 0


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "workflow_scripts.track.profile", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    output = tmp_path / "profile.json"
    done = command(
        "--tracker", "seqtrack_small", "--batch", "1", "--repeats", "1", "--size", "320x240", "--output", str(output)
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(output.read_text())
    parameters = SeqTrack(CONFIGS["seqtrack_small"]).parameters()
    assert sum(figures["parameters"].values()) == sum(p.numel() for p in parameters)
    assert [c["moment"] for c in figures["costs"]] == ["before the first update", "after it"]
    assert "1.16 M parameters" in done.stdout


def test_a_tracker_without_a_network_is_refused_in_one_sentence() -> None:
    done = command("--tracker", "kcf")
    assert done.returncode == 1
    assert done.stderr.startswith("error: kcf") and "Traceback" not in done.stderr
