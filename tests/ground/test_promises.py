"""docs/promises.md names tests: each of them exists, and no promise stands without one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [line for line in (ROOT / "docs" / "promises.md").read_text().splitlines() if line.startswith("| ")]
PROMISES = [line for line in ROWS if not line.startswith("| promise |")]


def test_every_test_that_holds_a_promise_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", "\n".join(PROMISES))
    missing = [f"{file}::{name}" for file, name in named if f"\ndef {name}(" not in (ROOT / "tests" / file).read_text()]
    assert len(named) > 50 and not missing


def test_every_promise_is_held_by_a_test():
    assert [row for row in PROMISES if not re.search(r"\| (`[\w/]+\.py::\w+`(, )?)+ \|$", row)] == []
