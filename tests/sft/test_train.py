"""Three real steps of LLaMA-Factory: what is handed over, how a killed run goes on, what the gate refuses."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import PIXELS, RECIPE
from safetensors.torch import load_file

from workflow_scripts import files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.gpus import Device
from workflow_scripts.sft import checkpoints, configure, factory, train


def settings(base: Path, dataset: Path, recipe=RECIPE) -> dict:
    return configure.render(recipe, PIXELS, ["sft_dataset_rendered"], base, dataset, Path("unused"))


@pytest.fixture(scope="module")
def work(base: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder of a finished three-step run."""
    folder = tmp_path_factory.mktemp("train") / ".model.training"
    factory.run(["train", str(train.prepare(settings(base, dataset), folder))], "")
    return folder


@pytest.fixture(scope="module")
def model(work: Path, base: Path) -> tuple[Path, dict]:
    """The folder handed over, and its facts."""
    folder = work.parent / "model"
    folder.mkdir()
    return folder, train.collect(work / "run", base, folder, "full")


def test_new_weights_lie_beside_the_bases_own_files(model: tuple[Path, dict], base: Path) -> None:
    folder, facts = model
    for path in base.iterdir():
        same = (folder / path.name).read_bytes() == path.read_bytes()
        assert same != (path.name == "model.safetensors"), path.name
    assert not any(path.name.startswith(("checkpoint", "trainer", "training")) for path in folder.iterdir())
    assert facts["steps"] == 3 and facts["parameters"] > 100_000


def test_the_loss_is_written_as_csv(model: tuple[Path, dict]) -> None:
    with (model[0] / "loss.csv").open() as handle:
        curve = list(csv.DictReader(handle))
    assert [row["step"] for row in curve] == ["1", "2", "3"]
    assert float(curve[-1]["loss"]) < float(curve[0]["loss"])


def test_a_gpu_with_too_little_memory_is_refused_before_the_training_starts(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 16 * sum(t.numel() for t in load_file(base / "model.safetensors").values())
    gpus = [Device(str(n), "H100", (9, 0), 2 * needed, needed - n) for n in range(2)]
    monkeypatch.setattr("workflow_scripts.gpus.driver", lambda: True)
    monkeypatch.setattr("workflow_scripts.gpus.visible", lambda: gpus)
    monkeypatch.setattr(factory, "run", lambda *_: pytest.fail("started"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings(base, dataset)))
    monkeypatch.setattr("sys.argv", ["train", "--config", str(config), "--output", str(tmp_path / "model")])
    with pytest.raises(BadInput, match=r"GPU 1 has .* full fine-tuning of .* takes at least .* \(16 bytes a parameter\)"):
        train.main()
    train.check_memory(base, "lora")


def test_a_dataset_that_nobody_registered_is_refused_before_the_training_starts(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "run", lambda *_: pytest.fail("started"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings(base, dataset) | {"dataset": "r1_track_100k"}))
    monkeypatch.setattr("sys.argv", ["train", "--config", str(config), "--output", str(tmp_path / "model")])
    with pytest.raises(BadInput, match="registers no dataset r1_track_100k"):
        train.main()


def test_a_killed_run_goes_on_from_its_last_whole_checkpoint_to_the_same_weights(
    work: Path, base: Path, dataset: Path, tmp_path: Path
) -> None:
    killed = tmp_path / ".model.training"
    killed.mkdir()
    shutil.copy2(work / "fingerprint", killed)
    shutil.copytree(work / "run" / "checkpoint-2", killed / "run" / "checkpoint-2")
    broken = Path(shutil.copytree(work / "run" / "checkpoint-3", killed / "run" / "checkpoint-3"))
    (broken / "trainer_state.json").write_text("{")
    own = train.prepare(settings(base, dataset), killed)
    assert yaml.safe_load(own.read_text())["resume_from_checkpoint"].endswith("checkpoint-2")
    assert not broken.exists()
    factory.run(["train", str(own)], "")
    weights = [folder / "run" / "model.safetensors" for folder in (work, killed)]
    assert files.sha256(weights[0]) == files.sha256(weights[1])


def test_another_configuration_starts_afresh(work: Path, base: Path, dataset: Path, tmp_path: Path) -> None:
    killed = tmp_path / ".model.training"
    killed.mkdir()
    shutil.copy2(work / "fingerprint", killed)
    (killed / "run" / "checkpoint-2").mkdir(parents=True)
    changed = RECIPE.model_copy(update={"arguments": {**RECIPE.arguments, "learning_rate": 5e-4}})
    own = train.prepare(settings(base, dataset, changed), killed)
    assert "resume_from_checkpoint" not in yaml.safe_load(own.read_text())
    assert not (killed / "run").exists()


def test_a_model_that_lacks_a_tensor_is_refused(model: tuple[Path, dict], base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(model[0], tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"model\.norm\.weight .* does not agree"):
        checkpoints.gate(folder, base)


def test_weights_that_are_cut_off_or_not_finite_are_refused(model: tuple[Path, dict], base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(model[0], tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"norm\.weight is not finite"):
        checkpoints.gate(folder, base)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="is cut off"):
        checkpoints.gate(folder, base)


def test_a_training_that_fails_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("model_name_or_path: nowhere\n")
    with pytest.raises(BadInput, match="llamafactory-cli train ended with 1"):
        factory.run(["train", str(tmp_path / "bad.yaml")], "")


def test_an_adapter_is_trained_and_merged_into_a_whole_model(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflow_scripts.sft import export

    adapters = {**RECIPE.arguments, "max_steps": 2, "lora_rank": 4, "lora_target": "all"}
    recipe = RECIPE.model_copy(update={"method": "lora", "arguments": adapters})
    config, adapter, merged = tmp_path / "config.yaml", tmp_path / "model", tmp_path / "exported"
    config.write_text(yaml.safe_dump(settings(base, dataset, recipe)))
    monkeypatch.setattr("sys.argv", ["train", "--config", str(config), "--output", str(adapter)])
    train.main()
    assert {path.name for path in adapter.iterdir()} == {*train.ADAPTER, "loss.csv"}
    flags = ["--config", str(config), "--adapter", str(adapter), "--output", str(merged), "--manifest", f"{merged}.json"]
    monkeypatch.setattr("sys.argv", ["export", *flags])
    export.main()
    assert checkpoints.gate(merged, base)
    assert files.sha256(merged / "model.safetensors") != files.sha256(base / "model.safetensors")
    assert (merged / "config.json").read_bytes() == (base / "config.json").read_bytes()
    manifest.verify(f"{merged}.json")
