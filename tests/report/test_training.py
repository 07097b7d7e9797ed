"""Training curves: every log given is drawn, and its data lie beside it."""

import numpy as np
import pytest

from workflow_scripts.console import BadInput
from workflow_scripts.report import training


def test_training_curves_draw_every_log_given(tmp_path):
    for name in ("clean", "noised"):
        (tmp_path / f"{name}.csv").write_text("step,loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(80)))
    (tmp_path / "reward.csv").write_text("step,reward,running\n1,0.5,0.5\n2,0.75,0.6\n")
    arguments = [f"--grpo={tmp_path / 'reward.csv'}", f"--output={tmp_path / 'out'}", "--parameters", '{"formats": ["svg"]}']
    training.main(["--sft", f"clean={tmp_path / 'clean.csv'}", f"noised={tmp_path / 'noised.csv'}", *arguments])
    assert (tmp_path / "out/sft_loss.csv").read_text().startswith("step,clean,noised\n0,1,1\n1,0.5,0.5\n")
    assert (tmp_path / "out/grpo_reward.csv").read_text() == "step,reward\n1,0.5\n2,0.75\n"
    assert (tmp_path / "out/tracker_loss.svg").exists()
    (tmp_path / "reward.csv").write_text("step,other\n1,2\n")
    with pytest.raises(BadInput, match=r"reward\.csv has no columns step and reward"):
        training.main(arguments)


def test_the_running_mean_looks_back_only():
    values = np.arange(6.0)
    np.testing.assert_allclose(training.running_mean(values, 3), [0, 0.5, 1, 2, 3, 4])
