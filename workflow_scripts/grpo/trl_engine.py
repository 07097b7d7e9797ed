"""GRPO by TRL's trainer on a CPU: the mini study's engine, with EasyR1's checkpoint layout and log.

What it takes to make a tiny model's reward rise, beside the numbers in params.yaml:

* the start must be past the jump in which yes/no is learnt, yet unsure: the model trained on noised labels;
* generation settings that came with the model (temperature 0.1) would replace values that equal the library's defaults, so
  they are cleared before the trainer sees them;
* a sampled picture token would make text and pictures disagree in the next forward pass and end the run: they are suppressed.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.grpo import checkpoints, rewards
from workflow_scripts.grpo.dataset import read_rows

LOG = "experiment_log.jsonl"
PICTURE_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
HUB_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.json",
        "chat_template.jinja",
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
    }
)
VALIDATION_BATCH = 32


def text_of(problem: str, pictures: int) -> str:
    """The prompt without its leading <image> tags, which TRL and the chat template put in themselves."""
    text = problem.removeprefix("<image>" * pictures)
    if text == problem or "<image>" in text:
        raise BadInput(
            f"prompt {problem[:60]!r} does not begin with its {pictures} <image> tags, as the trl engine needs: "
            "set grpo.pairs.prompt."
        )
    return text


def text_of_completion(completion: Any) -> str:
    """A completion's text; TRL gives conversational ones as a list of messages."""
    return completion if isinstance(completion, str) else "".join(message["content"] for message in completion)


def mean_terms(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each key over answers."""
    return {key: round(sum(s[key] for s in scores) / len(scores), 6) for key in scores[0]}


def answer_greedily(model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], tokens: int) -> list[tuple[str, int]]:
    """(text, tokens) of the greedy answer to each row, in batches."""
    import torch
    from PIL import Image

    answered = []
    training = model.training
    model.eval()
    for at in range(0, len(rows), VALIDATION_BATCH):
        batch = rows[at : at + VALIDATION_BATCH]
        prompts, pictures = [], []
        for row in batch:
            content = [{"type": "image"} for _ in row["images"]]
            content.append({"type": "text", "text": text_of(row["problem"], len(row["images"]))})
            prompts.append(
                processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
                )
            )
            pictures += [Image.open(path).convert("RGB") for path in row["images"]]
        inputs = processor(text=prompts, images=pictures, return_tensors="pt", padding=True)
        with torch.no_grad():
            output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, temperature=None, top_p=None, top_k=None)
        for ids in output[:, inputs["input_ids"].shape[1] :]:
            text = processor.tokenizer.decode(ids, skip_special_tokens=True)
            answered.append((text, int((ids != processor.tokenizer.pad_token_id).sum())))
    model.train(training)
    return answered


class Run:
    """One training run in its own folder, which a killed run finds again and continues from its last complete step."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        self.config, self.folder = config, folder
        self.start, self.pairs = Path(config["model"]), Path(config["pairs"])
        self.reward = {k: v for k, v in config["reward"].items() if k in ("preset", "weights", "on_tracker_failure")}
        self.terms: dict[str, float] = {}

    # -- resuming -------------------------------------------------

    def done_steps(self) -> int:
        """The last complete step of an earlier attempt, 0 if there is none; the log is cut back to it."""
        try:
            step = checkpoints.select(self.folder).number
        except BadInput:
            step = 0
        if not (self.folder / "trainer" / f"checkpoint-{step}").is_dir():
            step = 0
        log = self.folder / LOG
        if step == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        else:
            kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
            files.write_text(log, "".join(f"{line}\n" for line in kept))
            for leftover in (self.folder / "trainer").glob("checkpoint-*"):
                if int(leftover.name.rsplit("-", 1)[1]) > step:
                    shutil.rmtree(leftover)
        return step

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line in the form of EasyR1's file logger."""
        with (self.folder / LOG).open("a") as handle:
            handle.write(json.dumps({"step": step, **values}) + "\n")

    # -- rewards and validation -----------------------------------

    def score(self, responses: Sequence[str], lengths: Sequence[int], truths: Sequence[str]) -> list[dict[str, float]]:
        """The stage's reward function over a batch."""
        inputs = [
            {"response": r, "response_length": n, "ground_truth": t} for r, n, t in zip(responses, lengths, truths, strict=True)
        ]
        return rewards.compute_score(inputs, **self.reward)

    def reward_function(self, completions: list, completion_ids: list, answer: list[str], **_: Any) -> list[float]:
        """TRL's reward signature."""
        scores = self.score([text_of_completion(c) for c in completions], [len(i) for i in completion_ids], answer)
        self.terms = mean_terms(scores)
        return [s["overall"] for s in scores]

    def validate(self, model: Any, processor: Any, step: int) -> float:
        """Greedy answers to the validation pairs; logs the mean terms and returns the mean reward."""
        rows = read_rows(self.pairs / "val.parquet")
        answered = answer_greedily(model, processor, rows, self.config["trainer"]["max_completion_length"])
        means = mean_terms(self.score([text for text, _ in answered], [n for _, n in answered], [r["answer"] for r in rows]))
        self.log(step, {"val": {f"{key}_reward": value for key, value in means.items()}})
        print(f"step {step}: validation {means}", flush=True)
        return means["overall"]

    # -- checkpoints ----------------------------------------------

    def save(self, model: Any, step: int, value: float) -> None:
        """Write global_step_<step> as EasyR1 would, then the tracker file."""
        from workflow_scripts.grpo import shards

        actor = self.folder / f"global_step_{step}" / "actor"
        shards.write(model.state_dict(), actor, self.config["shards"])
        (actor / "huggingface").mkdir(exist_ok=True)
        for path in sorted(self.start.iterdir()):
            if path.name in HUB_FILES:
                shutil.copyfile(path, actor / "huggingface" / path.name)
        tracker = self.folder / checkpoints.TRACKER
        best = files.read_json(tracker) if tracker.exists() else {"best_val_reward_score": float("-inf")}
        if value > best["best_val_reward_score"]:
            best = {"best_global_step": step, "best_val_reward_score": value}
        files.write_json(
            tracker,
            {
                "best_global_step": best["best_global_step"],
                "best_val_reward_score": best["best_val_reward_score"],
                "last_global_step": step,
                "last_actor_path": f"global_step_{step}/actor",
            },
        )

    # -- the run --------------------------------------------------

    def train(self) -> None:
        """Train to the last step, or continue an earlier attempt."""
        import datasets
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback
        from trl import GRPOConfig, GRPOTrainer

        from workflow_scripts.grpo import shards

        done = self.done_steps()
        arguments = self.config["trainer"]
        if done >= arguments["max_steps"]:
            return
        shards.warm_up()
        processor = AutoProcessor.from_pretrained(self.start, padding_side="left", local_files_only=True)
        processor.tokenizer.padding_side = "left"
        earlier = self.folder / "trainer" / f"checkpoint-{done}" if done else None
        # an earlier attempt's weights are loaded here: the trainer's own loading knows only in-memory names, finds none of
        # the published ones that it has saved, and would continue from the start model with a warning
        model = AutoModelForImageTextToText.from_pretrained(earlier or self.start, dtype=torch.float32, local_files_only=True)
        for name in ("temperature", "top_p", "top_k"):
            setattr(model.generation_config, name, None)
        if done:
            print(f"continuing from step {done} of an earlier attempt", flush=True)
        else:
            self.validate(model, processor, 0)
        rows = [
            {
                "prompt": [{"role": "user", "content": text_of(row["problem"], len(row["images"]))}],
                "images": row["images"],
                "answer": row["answer"],
            }
            for row in read_rows(self.pairs / "train.parquet")
        ]
        dataset = datasets.Dataset.from_list(rows).cast_column("images", datasets.Sequence(datasets.Image()))
        suppressed = [processor.tokenizer.convert_tokens_to_ids(token) for token in PICTURE_TOKENS]
        trainer = GRPOTrainer(
            model=model,
            processing_class=processor,
            reward_funcs=[self.reward_function],
            args=GRPOConfig(
                output_dir=str(self.folder / "trainer"),
                generation_kwargs={"suppress_tokens": suppressed},
                **arguments,
            ),
            train_dataset=dataset,
            callbacks=[_recorder(self, processor)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(earlier) if earlier else None)
        if trainer.state.global_step < arguments["max_steps"]:
            raise BadInput(f"training ended at step {trainer.state.global_step} of {arguments['max_steps']}: read the log.")
        if checkpoints.select(self.folder).number != arguments["max_steps"]:
            self.save(model, arguments["max_steps"], self.validate(model, processor, arguments["max_steps"]))
        shutil.rmtree(self.folder / "trainer")


def _recorder(run: Run, processor: Any) -> Any:
    """The trainer's callback: one log line a step, one checkpoint where the trainer saves."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
            if logs and "reward" in logs:
                line = {
                    "reward": run.terms,
                    "reward_std": logs.get("reward_std"),
                    "actor": {name: logs.get(name) for name in ("loss", "grad_norm", "learning_rate", "entropy")},
                    "response_length": {"mean": logs.get("completions/mean_length")},
                }
                run.log(state.global_step, line)
                print(f"step {state.global_step}: reward {logs['reward']:.3f}", flush=True)

        def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            step = state.global_step
            run.save(model, step, run.validate(model, processor, step))

    return Recorder()


def run(config: Mapping[str, Any], folder: Path) -> None:
    """Train in `folder`, continuing what an earlier attempt left there."""
    import transformers

    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries repeat theirs at every step
        Run(config, folder).train()
