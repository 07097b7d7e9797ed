"""Verb: make the published annotation files usable: paths under the user's root, every image looked at, rows registered.

A row whose image is missing or unreadable, or whose pictures and <image> tags differ in number, is refused with its file and
number before any training starts; `--report` lists all of them, and what report.json counts of rows that are merely odd:
instructions that never mention <d>, answers in another format than the instruction asks for or than is parsed, decisions that
contradict their own sentence. With label noise the <d> of a seeded share of the rows is flipped and nothing else of them;
the report says so in plain words. Pictures that the pixel rule changes are written resized (pictures.py). The published files
are read and never written.
"""

from __future__ import annotations

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts import answers, console, files, images, manifest, params, prompts
from workflow_scripts.console import BadInput
from workflow_scripts.params.sft import Pixels, Prompting, Rows
from workflow_scripts.sft import rows
from workflow_scripts.sft.pictures import Fitting
from workflow_scripts.sft.rows import Row

NAMED = 20  # odd rows that the report lists by number; all are counted
TAGS = ("<think>", "<d>", "<answer>")
THOUGHT = re.compile(r"(<think>).*?</think>", re.DOTALL)


@dataclass
class Findings:
    """What one file holds. Lists are row numbers, from 1."""

    rows: int = 0
    images: int = 0
    form: str = ""
    instruction_without_d: int = 0
    answer_in_other_format_than_asked: list[int] = field(default_factory=list)
    answer_breaks_format: list[int] = field(default_factory=list)
    says_no_but_changes: list[int] = field(default_factory=list)
    says_yes_but_repeats: list[int] = field(default_factory=list)
    image_count_differs_from_tags: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)  # why, by row
    flipped: int = 0

    def summary(self) -> dict[str, Any]:
        """As JSON: counts, and the first rows of each kind; of refused rows all."""
        value = asdict(self)
        for key in [key for key, numbers in value.items() if isinstance(numbers, list)]:
            value[key] = {"count": len(value[key]), "first_rows": value[key][:NAMED]}
        return value


class OtherCount(ValueError):
    """Pictures and tags differ in number."""


def relocate(row: Row, root: Path) -> list[str]:
    """The row's image paths under `root`, which replaces the placeholder; ValueError for a path that cannot be there."""
    relative = [Path(path.removeprefix(rows.PLACEHOLDER)) for path in row["images"]]
    if wrong := [path for path in relative if path.is_absolute() or ".." in path.parts]:
        raise ValueError(f"has the path {wrong[0]}, which neither begins with {rows.PLACEHOLDER} nor lies below a root")
    return [(root / path).as_posix() for path in relative]


def check(row: Row, paths: list[str]) -> list[images.Image]:
    """The row's pictures; ValueError if pictures and tags differ in number, or a picture cannot be read."""
    tags = rows.question(row).count(rows.IMAGE)
    if tags != len(paths):
        raise OtherCount(f"has {tags} {rows.IMAGE} tags and {len(paths)} images")
    return [images.read_rgb(path) for path in paths]


def restyle(row: Row, prompt: Prompting) -> dict[str, Any]:
    """Under `consistent`, an Alpaca row asks with the one prompt that RL and serving use; all else is kept."""
    if "messages" in row or prompt.style == "paper":
        return dict(row)
    system, user = prompts.build(prompt.name, sentence=rows.sentence(row))
    extra = {"system": system} if system else {}
    return {**row, "instruction": "", "input": user, **extra}


def observe(findings: Findings, row: Row, number: int) -> None:
    """Count what is odd about a row as it was published."""
    findings.images += len(row["images"])
    if "messages" in row:
        return
    findings.instruction_without_d += "<d>" not in row["instruction"]
    told, asked = THOUGHT.sub(r"\1", rows.response(row)), rows.question(row)
    if any((tag in told) != (tag in asked) for tag in TAGS):
        findings.answer_in_other_format_than_asked.append(number)
    answer = answers.parse(rows.response(row))
    if not answer.well_formed:
        findings.answer_breaks_format.append(number)
        return
    changes = (answer.sentence or "").casefold().strip(" .") != rows.sentence(row).casefold().strip(" .")
    if answer.decision == "no" and changes:
        findings.says_no_but_changes.append(number)
    if answer.decision == "yes" and not changes:
        findings.says_yes_but_repeats.append(number)


def rewrite_file(
    source: Path, target: Path, root: Path, prompt: Prompting, fitting: Fitting | None, flips: np.ndarray, heldout: np.ndarray
) -> tuple[Findings, list[dict[str, Any]]]:
    """Rewrite one file, row by row; `flips` and `heldout` are a flag a row. Held-out rows are not written but returned.

    Rows that cannot be used are neither; the findings say why.
    """
    findings, held = Findings(), []
    with target.open("w", encoding="utf-8") as handle, ThreadPoolExecutor(4) as pool:
        writer = rows.Writer(handle)

        def prepare(numbered: tuple[int, dict[str, Any]]) -> tuple[int, dict[str, Any], list[str], Exception | None]:
            number, row = numbered
            try:
                findings.form = rows.form(row)
                paths = relocate(row, root)
                pictures = check(row, paths)
                if fitting is not None:
                    paths = fitting.fit(row, paths, pictures, f"{source.stem}/{number:06d}")
                return number, row, paths, None
            except BadInput as error:  # an image: what is wrong with it, without the remedy for datasets
                return number, row, [], ValueError(f"has an image that cannot be used ({str(error).rpartition(':')[0]})")
            except ValueError as error:
                return number, row, [], error

        numbered = enumerate(rows.read(source), start=1)
        for batch in batches(console.progress(numbered, source.name), 256):
            for number, row, paths, error in pool.map(prepare, batch):
                findings.rows += 1
                if error is not None:
                    findings.refused[number] = str(error)
                    if isinstance(error, OtherCount):
                        findings.image_count_differs_from_tags.append(number)
                    continue
                observe(findings, row, number)
                changed = restyle(row, prompt) | {"images": paths}
                if heldout[number - 1]:
                    held.append(changed)
                    continue
                if flips[number - 1] and "output" in changed:
                    flipped = rows.flip(changed["output"])
                    findings.flipped += flipped != changed["output"]
                    changed["output"] = flipped
                writer.add(changed)
        writer.close()
    return findings, held


def refuse(source: Path, root: Path, found: dict[str, Findings]) -> None:
    """BadInput for the first refused row; it counts and numbers the others."""
    refused = [(name, number, why) for name, findings in found.items() for number, why in findings.refused.items()]
    if refused:
        name, number, why = refused[0]
        others = ", ".join(f"{name} {number}" for name, number, _ in refused[1 : NAMED + 1])
        more = f" ({len(refused) - 1} more rows are refused: {others}{', ...' if len(refused) > NAMED + 1 else ''})"
        raise BadInput(
            f"{source / name}.json, row {number} {why}; put its images under {root}, or mend the row{more if others else ''}."
        )


def batches(items: Any, size: int) -> Any:
    """Lists of at most `size` items."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def rewrite(
    source: Path,
    root: Path,
    chosen: Rows,
    prompt: Prompting,
    pixels: Pixels,
    folder: Path,
    told: Path | None = None,
    place: Path | None = None,
) -> dict[str, Any]:
    """Write a run's dataset into `folder`: its files, heldout.json, dataset_info.json, report.json. Returns the report.

    Held-out pairs that the source brings (heldout.json) are taken; otherwise `chosen.heldout` rows are drawn. The report is
    also written to `told`, even if rows are refused, for which BadInput is raised after all files were looked at. Pictures that
    the pixel rule changes are written as well, to be read at `place` (default: `folder`); in the paper's style none is changed.
    """
    own = source / "heldout.json"
    totals = [sum(1 for _ in rows.read(source / f"{name}.json")) for name in chosen.files]
    count = 0 if own.exists() else chosen.heldout
    if count >= sum(totals):
        raise BadInput(f"{source} has {sum(totals)} rows, and {count} are to be held out: lower sft.runs.*.rows.heldout.")
    drawn = np.zeros(sum(totals), bool)
    drawn[np.random.default_rng([chosen.seed, 1]).choice(sum(totals), count, replace=False)] = True
    flips = np.random.default_rng([chosen.seed, 0]).random(sum(totals)) < chosen.label_noise
    found, heldout, offset = {}, [], 0
    fitting = Fitting(pixels, folder, place or folder) if prompt.style == "consistent" else None
    brought = Findings()
    for name, total in zip(chosen.files, totals, strict=True):
        part = slice(offset, offset + total)
        here, there = source / f"{name}.json", folder / f"{name}.json"
        findings, held = rewrite_file(here, there, root, prompt, fitting, flips[part], drawn[part])
        found[name], offset = findings, offset + total
        heldout += held
    if own.exists():
        whole = np.ones(sum(1 for _ in rows.read(own)), bool)
        brought, heldout = rewrite_file(own, folder / "heldout.json", root, prompt, fitting, ~whole, whole)
    files.write_json(folder / "heldout.json", heldout)
    system, _ = prompts.build(prompt.name, sentence="")
    systems = frozenset(found) if system and prompt.style == "consistent" else frozenset()
    forms = {name: findings.form for name, findings in found.items()}
    files.write_json(folder / "dataset_info.json", rows.registration(forms, systems))
    flipped, trained = sum(f.flipped for f in found.values()), sum(totals) - count
    said = (
        f"The <d> of {flipped} of {trained} training rows was flipped on purpose (share {chosen.label_noise:g}, seed "
        f"{chosen.seed}); thoughts and sentences were kept, held-out rows were not touched."
        if chosen.label_noise
        else "No label was changed."
    )
    report = {
        "labels": said,
        "prompt": prompt.name if prompt.style == "consistent" else "as published",
        "training_rows": trained,
        "heldout_rows": len(heldout),
        "files": {name: findings.summary() for name, findings in found.items()},
    }
    if brought.refused:
        report["refused_heldout_rows"] = brought.refused
    for place in (folder / "report.json", *([told] if told else [])):
        files.write_json(place, report)
    refuse(source, root, found | {"heldout": brought})
    return report


def keep_apart(output: Path, annotations: Path, root: Path) -> None:
    """BadInput if writing `output` would touch what is read, or replace a folder that no run of this command has made."""
    place = output.resolve()
    for what, read in (("annotations", annotations.resolve()), ("images", root.resolve())):
        if place == read or place in read.parents:
            raise BadInput(f"--output {output} holds the {what}, which are never changed in place: name a new folder.")
    if output.exists() and not (output.is_dir() and ((output / "report.json").is_file() or not any(output.iterdir()))):
        raise BadInput(f"--output {output} is there and no dataset of this command: name a new folder, or move it away.")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the annotation files")
    parser.add_argument("--root", type=Path, help="folder that replaces /your_root_path (default: that of the annotations)")
    parser.add_argument("--labels", required=True, help="name of the run in sft.runs")
    parser.add_argument("--output", type=Path, required=True, help="dataset folder to write")
    parser.add_argument("--parameters", help="JSON of sft.runs.<labels>.rows (default: params.yaml)")
    parser.add_argument("--prompt", help="JSON of sft.prompt (default: params.yaml)")
    parser.add_argument("--pixels", help="JSON of sft.pixels (default: params.yaml)")
    parser.add_argument("--input", type=Path, action="append", default=[], help="manifest it was made from, recorded")
    parser.add_argument("--report", type=Path, help="JSON report to write, also if rows are refused")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    flags = parser.parse_args()
    chosen = params.section(flags.parameters, f"sft.runs.{flags.labels}.rows", Rows)
    prompt = params.section(flags.prompt, "sft.prompt", Prompting)
    pixels = params.section(flags.pixels, "sft.pixels", Pixels)
    root = flags.root or flags.annotations
    keep_apart(flags.output, flags.annotations, root)
    with files.atomic_folder(flags.output) as folder:
        report = rewrite(flags.annotations, root, chosen, prompt, pixels, folder, flags.report, flags.output)
    for name, entry in report["files"].items():
        print(f"{name}: {entry['rows']} rows, {entry['images']} images read")
        print(f"  instructions without <d>: {entry['instruction_without_d']}")
        for key, odd in entry.items():
            if isinstance(odd, dict) and "count" in odd:
                print(f"  {key.replace('_', ' ')}: {odd['count']} {odd['first_rows'] or ''}")
    print(report["labels"])
    if flags.manifest:
        used = {"rows": chosen.model_dump(), "prompt": prompt.model_dump(), "pixels": pixels.model_dump()}
        manifest.write(flags.manifest, [flags.output], used, flags.input, {"labels": report["labels"]})


if __name__ == "__main__":
    console.run(main)
