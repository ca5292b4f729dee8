"""Our figure against vLLM's own modules, for tensor parallel 1 and 2.

Compared are the parameters that vLLM holds before it loads weights into them, see `vllm_oracle`: its CPU build repacks
them afterwards for its own kernels. So what a GPU's kernels repack is not compared either.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from serve_app.checkpoint import read_folder
from serve_app.layout import KNOWN
from serve_app.weights import fullest_rank
from tests.unit.serve_app.vllm_cases import ALL, BOUNDS, CASES
from tests.unit.serve_app.vllm_oracle import ENVIRONMENT, MARKS

pytestmark = MARKS
ROOT = Path(__file__).parents[3]


class Oracle(NamedTuple):
    """Where the checkpoints are, and vLLM's bytes of the fullest rank by name and ranks (as JSON writes them)."""

    folder: Path
    found: dict[str, dict[str, int | str]]

    def bytes(self, name: str, ranks: int) -> int:
        found = self.found[name][str(ranks)]
        assert isinstance(found, int), found
        return found


@pytest.fixture(scope="session", name="oracle")
def _oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    folder = tmp_path_factory.mktemp("checkpoints")
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.serve_app.vllm_oracle", str(folder)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return Oracle(folder, json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_fullest_rank_holds_what_vllm_builds_to_the_byte(oracle: Oracle, name: str, ranks: int) -> None:
    checkpoint = read_folder(oracle.folder / name)
    ours = fullest_rank(checkpoint.tensors, checkpoint.config, ranks, ALL[name].dtype)
    assert (ours.bytes, ours.exact) == (oracle.bytes(name, ranks), True)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_is_never_less_than_what_vllm_builds(oracle: Oracle, name: str, ranks: int) -> None:
    checkpoint = read_folder(oracle.folder / name)
    ours = fullest_rank(checkpoint.tensors, checkpoint.config, ranks, ALL[name].dtype)
    assert ours.bytes >= oracle.bytes(name, ranks)
    assert not ours.exact


def test_every_known_architecture_is_compared() -> None:
    assert {case.architecture for case in CASES.values()} == set(KNOWN)
    assert {case.architecture for name, case in BOUNDS.items() if name.startswith("unknown")}.isdisjoint(KNOWN)
