"""The result as lines of a table, and as JSON and Markdown files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.context import Finding

WIDTH = 10  # of a check's name


def line(name: str, finding: Finding) -> str:
    return f"{_word(finding):6}  {name:{WIDTH}}  {finding.text}"


def save(folder: Path, facts: Mapping[str, Any], findings: Mapping[str, Finding]) -> None:
    """gpu_check.json has all figures, gpu_check.md what people read."""
    folder.mkdir(parents=True, exist_ok=True)
    checks = {name: {"ok": one.ok, "text": one.text, "figures": one.figures} for name, one in findings.items()}
    (folder / "gpu_check.json").write_text(json.dumps({**facts, "checks": checks}, indent=2) + "\n")
    lines = [
        "# GPU check",
        "",
        "Written by `make gpu-check`; what is checked, and how, stands in `benchmarks/gpu_check`.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        "| check | | |",
        "|---|---|---|",
        *(f"| {name} | {_word(one)} | {one.text.replace('|', '/')} |" for name, one in findings.items()),
        "",
    ]
    (folder / "gpu_check.md").write_text("\n".join(lines))


def _word(finding: Finding) -> str:
    return "ok" if finding.ok else "FAILED"
