"""The reference of all parameters, generated from their models: docs/parameters.md and docs/params.schema.json.

python -m workflow_scripts.reference          # writes both
python -m workflow_scripts.reference --check  # says whether they are current
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from workflow_scripts import console, files, params
from workflow_scripts.console import BadInput

ROOT = Path(__file__).resolve().parent.parent
REMEDY = "run `python -m workflow_scripts.reference` and commit what it writes."


def schema() -> dict[str, Any]:
    """JSON schema of params.yaml: each section, with its keys for both studies, for `mini` and for `full`."""
    model = params.Params.model_json_schema()
    definitions = model.pop("$defs", {})
    for name, field in params.Params.model_fields.items():
        if name in params.SWITCHES:
            continue
        section = definitions[field.annotation.__name__]  # type: ignore[union-attr]
        # a key may stand in the shared part, in a study's part or in both: none is required in one place
        partial = {key: value for key, value in section.items() if key != "required"}
        definitions[f"{name}_of_one_study"] = _optional(partial)
        section.pop("required", None)
        section["properties"] = {
            **section.get("properties", {}),
            **{study: {"$ref": f"#/$defs/{name}_of_one_study"} for study in params.STUDIES},
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml",
        **{k: v for k, v in model.items() if k != "title"},
        "$defs": {k: _optional(v) for k, v in definitions.items()},
    }


def _optional(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without required keys: a study's part may hold any of them."""
    return {key: value for key, value in definition.items() if key != "required"}


def page() -> str:
    """docs/parameters.md: one table a section with each key's type, its value in both studies and what it means."""
    values = {study: params.load(ROOT / "params.yaml", study) for study in params.STUDIES}
    lines = [
        "# Parameters",
        "",
        "Every key of `params.yaml`, generated from the models in `workflow_scripts/params/`. A section holds what both",
        "studies share, and `mini:` and `full:` what differs. An unknown key is refused with the nearest known name.",
        "",
        "`study` (mini or full) selects the numbers; `snakemake --config study=full` and `slurm/config.yaml` override it.",
        "`prompt_style` (consistent or paper) selects the prompts of SFT rows, RL rows and clients: one, or as published.",
    ]
    for name, field in params.Params.model_fields.items():
        if name in params.SWITCHES:
            continue
        lines += ["", f"## {name}", "", "| key | type | mini | full | meaning |", "|---|---|---|---|---|"]
        lines += _rows(field.annotation, "", [getattr(values[s], name) for s in params.STUDIES])  # type: ignore[arg-type]
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel], prefix: str, values: list[Any]) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        inner = [getattr(value, name, None) for value in values]
        nested = _model_of(field)
        if nested is not None and all(isinstance(v, BaseModel) or v is None for v in inner):
            rows += _rows(nested, f"{prefix}{name}.", inner)
        else:
            shown = ["" if section is None else _shown(v) for section, v in zip(values, inner, strict=True)]
            rows.append(f"| `{prefix}{name}` | {_type(field)} | {shown[0]} | {shown[1]} | {_cell(field.description or '')} |")
            named = next(filter(_named_sections, inner), None)
            if named:  # what each may hold; the values are in params.yaml
                rows += _rows(type(next(iter(named.values()))), f"{prefix}{name}.<name>.", [None] * len(values))
    return rows


def _named_sections(value: Any) -> bool:
    """Whether a value is a mapping of names to sections."""
    return isinstance(value, dict) and bool(value) and all(isinstance(v, BaseModel) for v in value.values())


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The nested section that a field holds, if it holds one."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    for noise in ("typing.", "pathlib.", "workflow_scripts.params."):
        text = text.replace(noise, "")
    return _cell(text)


def _shown(value: Any) -> str:
    if _named_sections(value):
        value = list(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, list | tuple) and any(isinstance(v, BaseModel) for v in value):
        value = [v.model_dump(mode="json") for v in value]
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"`{_cell(text if len(text) <= 80 else text[:77] + '...')}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def pages() -> dict[Path, str]:
    """Both generated files and their text."""
    return {
        ROOT / "docs" / "parameters.md": page(),
        ROOT / "docs" / "params.schema.json": json.dumps(schema(), indent=1, ensure_ascii=False) + "\n",
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write docs/parameters.md and docs/params.schema.json from the models.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if they are not current")
    arguments = parser.parse_args()
    for path, text in pages().items():
        if not arguments.check:
            files.write_text(path, text)
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise BadInput(f"{path.relative_to(ROOT)} is not current: {REMEDY}")


if __name__ == "__main__":
    console.run(main)
