"""`python tools/pictures.py`: the pictures of docs/images/, made of what the commands print now.

A Hive must run on this machine with the models of values/local.yaml: make run.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH = 104  # columns
PICTURES = {
    "plan": "hive plan -f values/local.yaml --gpus 12GiB",
    "status": "hive status",
    "doctor": "hive doctor",
}
# rich's own, without the font that a browser would fetch from another host.
FORMAT = re.sub(r"@font-face {{.*?}}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def printed(command: str) -> str:
    """What the command prints where there are colours, without what moves."""
    environment = os.environ | {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH)}
    program, *words = shlex.split(command)
    done = subprocess.run(
        [ROOT / ".venv" / "bin" / program, *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def main() -> None:
    for name, command in PICTURES.items():
        with open(os.devnull, "w") as nowhere:
            console = Console(record=True, width=WIDTH, file=nowhere)
            console.print(Text(f"$ {command}"))
            console.print(Text.from_ansi(printed(command)))
        # A fixed id, so that the same output is the same file.
        picture = console.export_svg(title="", code_format=FORMAT, unique_id=name)
        (IMAGES / f"{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
