"""Tables for papers: best bold, second underlined, alike what reads alike, and how sure it is."""

from pathlib import Path

import pytest

from workflow_scripts.console import BadInput
from workflow_scripts.report import tables
from workflow_scripts.score import table

SCORES = "SR,PR,NPR,frames per second,SR low,SR high,SR to best,SR to best low,SR to best high"
HEAD = f"tracker,source,{SCORES},paper SR,paper PR,paper NPR\n"
ROWS = (
    "our_one,run here,60.002,70.0,80.0,12.3,55,65.04,0,0,0,,,\n"
    "other,published,60.001,65.0,81.0,,54,64,-0.001,-2,1.5,61.2,,\n"
    "third,run here,50.0,60.0,70.0,9,45,55,-10,-12,-8,,,\n"
)


def write(folder: Path, text: str) -> list[str]:
    (folder / "table.csv").write_text(text)
    tables.main([f"--table={folder / 'table.csv'}", f"--output={folder / 'out'}"])
    return [(folder / f"out/table.{kind}").read_text() for kind in ("tex", "md")]


def test_paper_tables_mark_the_best_bold_and_the_second_underlined(tmp_path):
    latex, markdown = write(tmp_path, HEAD + ROWS)
    lines = latex.splitlines()
    assert lines[2] == r"Tracker & SR & 95 \% & PR & NPR & paper SR & fps \\"
    assert lines[4] == r"our\_one & \textbf{60.00} & 55.0--65.0 & \textbf{70.00} & \underline{80.00} & -- & 12.3 \\"
    assert lines[5] == (
        r"other (published) & \textbf{60.00}$^\dagger$ & 54.0--64.0 & \underline{65.00} & \textbf{81.00} & 61.2 & -- \\"
    )
    assert lines[6] == r"third & \underline{50.00} & 45.0--55.0 & 60.00 & 70.00 & -- & 9.0 \\"
    assert "| third | <u>50.00</u> | 45.0–55.0 | 60.00 | 70.00 | -- | 9.0 |" in markdown
    assert f"† {tables.NOTE}" in markdown and tables.NOTE in lines[-1]


def test_without_papers_and_daggers_neither_column_nor_note_appears(tmp_path):
    latex, markdown = write(tmp_path, HEAD + "one,run here,60,70,80,12.3,55,65,0,0,0,,,\n")
    assert "paper" not in latex + markdown and "dagger" not in latex and "†" not in markdown


def test_the_scorers_own_table_is_what_is_read(small, tmp_path):
    sources = [f"--scores={small / 'scores'}", f"--raw={small / 'raw'}", "--parameters={}"]
    table.main([*sources, f"--output={tmp_path / 'table.csv'}"])
    latex, _ = write(tmp_path, (tmp_path / "table.csv").read_text())
    assert all(name in latex for name in ("high", "middle", "low"))


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"table\.csv is not a table"):
        write(tmp_path, "tracker,SR\na,1\n")
    assert not (tmp_path / "out").exists()
