"""A base model of a quarter of the mini study's size, and a handful of rendered pairs in the published form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TRACKGRAPH_ENV", "sft-tests")

from workflow_scripts.params.sft import Annotations, Pixels, Prompting, Recipe, Rows, TinyModel

SMALL = TinyModel(hidden=64, vision_hidden=32, layers=1, vision_depth=1)
PIXELS = Pixels(min_pixels=3136, max_pixels=4704)
PROMPT = Prompting(style="consistent", name="reasoningtrack")
ROWS = Rows(files=["sft_dataset_rendered"])
RECIPE = Recipe(
    method="full",
    arguments={
        "max_steps": 3,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "freeze_vision_tower": False,
        "freeze_multi_modal_projector": False,
        "cutoff_len": 256,
        "logging_steps": 1,
        "save_steps": 2,
        "use_cpu": True,
        "preprocessing_num_workers": 1,
        "dataloader_num_workers": 0,
        "seed": 1,
    },
)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small base model."""
    from workflow_scripts.sft import tiny_model

    folder = tmp_path_factory.mktemp("models") / "base"
    folder.mkdir()
    tiny_model.build(SMALL, folder)
    return folder


@pytest.fixture(scope="session")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training pairs, 6 of them views; 8 held-out pairs and 4 views. Tests that change files copy the folder first."""
    from workflow_scripts.sft import annotations

    folder = tmp_path_factory.mktemp("data") / "sft"
    folder.mkdir()
    annotations.render(Annotations(train=24, views=0.25, heldout=8, heldout_views=4), folder)
    return folder


@pytest.fixture(scope="session")
def dataset(annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs rewritten and registered."""
    from workflow_scripts.sft import rewrite

    folder = tmp_path_factory.mktemp("results") / "dataset"
    folder.mkdir()
    rewrite.rewrite(annotations, annotations, ROWS, PROMPT, PIXELS, folder)
    return folder
