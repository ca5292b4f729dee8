"""`python -m benchmarks.gpu_check` as it is run, with the fake NVML and a fake torch: real agent, real processes, and
GPUs that behave, or do not."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fake_nvml import DRIVER_NOT_LOADED, FakeNvml, Gpu
from tests.fake_torch import fake_gpu
from tests.unit.vram_agent.helpers import ROOT, eventually
from vram_agent.api import GIB, MIB

AS_MODULE = "import runpy; runpy.run_module('benchmarks.gpu_check', run_name='__main__')"
FAKE_TORCH = Path(fake_gpu.__file__).parent
GPU = Gpu("GPU-1111-2222", 24 * GIB, name="NVIDIA L4", reserved=300 * MIB, unlisted=3 * MIB)
# Folder -> what is wrong there, and the checks that must say so.
BREAKS: dict[str, tuple[str, set[str]]] = {
    "well": ("", set()),
    "broken": ("cap,context,uuid", {"pin", "context", "cap"}),
    "hidden": ("", {"pids", "lease", "two starts", "budgets", "foreign"}),
}


# Python runs this first. A GPU machine has PyTorch and what needs.PACKAGES names, and nothing else of the project's.
NOTHING_ELSE = """
import sys
for name in "fastapi helm_sdkpy httpx huggingface_hub jinja2 numpy openai psutil ray rich typer vllm yaml".split():
    sys.modules[name] = None  # its import fails
"""


class Run:
    """One check, started."""

    def __init__(self, nvml: FakeNvml, breaks: str = "", **env: str) -> None:
        self.state = nvml.state
        self.results = nvml.state.with_name("results")
        first = nvml.state.with_name("sitecustomize.py")
        first.write_text(NOTHING_ELSE)
        path = f"{first.parent}:{FAKE_TORCH}"
        given = dict(os.environ) | nvml.env | {"PYTHONPATH": path, "FAKE_TORCH_BREAKS": breaks}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu_check"],
            cwd=ROOT,
            env=given | {"HIVE_GPU_CHECK_RESULTS": str(self.results)} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())
        self.process.stdout.close()

    def end(self) -> int:
        code = self.process.wait(200)
        self._reader.join()
        return code

    def stop(self) -> None:
        self.process.kill()
        self.end()

    def processes(self) -> list[int]:
        """All that it started and itself: they have the state file in their environment."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.state).encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def checks(self) -> dict[str, Any]:
        checks: dict[str, Any] = json.loads((self.results / "gpu_check.json").read_text())["checks"]
        return checks


def fake(library: Path, folder: Path, *gpus: Gpu, init: int = 0, hidden: bool = False) -> FakeNvml:
    folder.mkdir(exist_ok=True)
    found = FakeNvml(library, folder / "gpus")
    found.write(*gpus, init=init, hidden=hidden)
    return found


@pytest.fixture(scope="module", autouse=True)
def runs(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """The whole check on three GPUs at once: most of its time it waits."""
    with ExitStack() as stack:
        started = {}
        for name, (breaks, _) in BREAKS.items():
            nvml = fake(nvml_library, tmp_path_factory.mktemp(name), GPU, hidden=name == "hidden")
            stack.enter_context(fake_gpu.driver(nvml.state))
            started[name] = Run(nvml, breaks)
            stack.callback(started[name].stop)
        yield started


class TestWithoutWhatItNeeds:
    def test_missing_packages_are_named_in_one_line(self) -> None:
        program = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {AS_MODULE}"]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        packages = "torch nvidia-ml-py aiohttp pydantic prometheus-client"
        assert done.returncode == 1
        assert done.stderr == (
            f"ERROR: {sys.executable} has no {packages.replace(' ', ', ')}. "
            f"FIX: {sys.executable} -m pip install {packages}\n"
        )

    @pytest.mark.parametrize(
        ("gpus", "init", "env", "what"),
        [
            ((GPU,), DRIVER_NOT_LOADED, {}, "there is no usable NVIDIA GPU here: NVML: Driver Not Loaded"),
            ((), 0, {}, "NVML shows no GPU"),
            ((GPU,), 0, {"CUDA_VISIBLE_DEVICES": ""}, "torch 2.99.0+fake can't use the GPU"),
        ],
    )
    def test_a_missing_gpu_is_one_line(
        self, nvml_library: Path, tmp_path: Path, gpus: tuple[Gpu, ...], init: int, env: dict[str, str], what: str
    ) -> None:
        run = Run(fake(nvml_library, tmp_path, *gpus, init=init), **env)
        assert run.end() == 1
        assert len(run.said) == 1
        assert run.said[0].startswith(f"ERROR: {what}. FIX: ")
        assert not run.results.exists()


@pytest.mark.parametrize("name", BREAKS)
def test_exactly_what_is_wrong_fails(runs: dict[str, Run], name: str) -> None:
    run, (_, wrong) = runs[name], BREAKS[name]
    code = run.end()
    said = "\n".join(run.said)
    checks = run.checks()
    assert {check for check, finding in checks.items() if not finding["ok"]} == wrong, said
    assert code == bool(wrong)
    assert len(checks) == 16
    assert [line.split()[0] for line in run.said if line[:6] in {"ok    ", "FAILED"}].count("FAILED") == len(wrong)
    assert not run.processes()
    table = (run.results / "gpu_check.md").read_text()
    assert all(f"| {check} | {'FAILED' if check in wrong else 'ok'} |" in table for check in checks)


def test_figures_are_those_of_the_gpu(runs: dict[str, Run]) -> None:
    runs["well"].end()
    figures = {name: finding["figures"] for name, finding in runs["well"].checks().items()}
    assert figures["identity"]["v2_used_includes_reserved"] is True
    assert (figures["context"]["bare"], figures["context"]["after_products"]) == (430 * MIB, 470 * MIB)
    assert figures["lease"]["agent"] == figures["lease"]["nvml"] == figures["lease"]["torch"] + 470 * MIB
    assert figures["cap"]["reached"] <= figures["cap"]["cap"] < figures["cap"]["reached"] + 32 * MIB
    assert figures["refusal"]["asked"] - figures["refusal"]["free"] == figures["agent"]["budget"]
    assert figures["orphan"]["dead"] < figures["orphan"]["bytes_back"] < figures["orphan"]["lease_gone"]


def test_a_driver_that_lists_nobody_is_told_apart_from_one_that_is_wrong(runs: dict[str, Run]) -> None:
    runs["hidden"].end()
    checks = runs["hidden"].checks()
    assert checks["pids"]["text"].startswith("NVML lists no process")
    assert "FIX: run where PIDs are the host's (hostPID)" in checks["pids"]["text"]
    assert checks["context"]["figures"]["after_products"] == 470 * MIB


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_check_that_is_ended(nvml_library: Path, tmp_path: Path, number: signal.Signals) -> None:
    nvml = fake(nvml_library, tmp_path, GPU)
    with fake_gpu.driver(nvml.state):
        run = Run(nvml)
        eventually(lambda: any(line.startswith("ok      lease") for line in run.said), "an engine runs")
        assert len(run.processes()) >= 4  # the check, the agent, a holder, an engine
        run.process.send_signal(number)
        assert run.end() == (128 + number if number is signal.SIGTERM else -number)
        eventually(lambda: not run.processes(), "no process is left")
