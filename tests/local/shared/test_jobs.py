"""Ray's job API on a running Hive, by the programs of examples/jobs: who may use it, and a job's whole life."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import httpx
import pytest

from hive.rendering import ROOT
from tests.local.conftest import Sandbox, wait_for
from tests.local.shared.conftest import JOBS_KEY

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1500)]

JOBS = ROOT / "examples" / "jobs"
RUN_SECONDS = 240
ANSWERS = [{"id": number, "error": None} for number in range(1, 7)]


WHERE = """
import ray

@ray.remote
def node():
    return ray.get_runtime_context().get_node_id()

used = [node.remote() for _ in range(8)]
used = {ray.get_runtime_context().get_node_id(), *ray.get(used)}
models = {one["NodeID"] for one in ray.nodes() if "vram_mib" in one["Resources"]}
print("beside models:", len(used & models), "on", len(models), "node")
"""


def environment(hive: Sandbox) -> dict[str, str]:
    """What examples/README.md says to set."""
    return os.environ | {
        "RAY_API_SERVER_ADDRESS": hive.hive.run.dashboard_url,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(hive.where.token),
    }


def run(hive: Sandbox, *command: str) -> subprocess.CompletedProcess[str]:
    """One of the programs, to its end."""
    return subprocess.run(
        command,
        env=environment(hive),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def rest(hive: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(hive, sys.executable, str(JOBS / "rest.py"), *arguments)


def answers(text: str) -> list[dict[str, Any]]:
    """The lines of JSON in a job's log, which come in the order in which they were answered."""
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for answer in found:
        assert isinstance(answer["answer"], str), answer["error"]
    return sorted(({"id": answer["id"], "error": answer["error"]} for answer in found), key=itemgetter("id"))


@pytest.fixture(scope="module")
def ray(hive: Sandbox) -> httpx.Client:
    """The job API, with the token."""
    headers = {"Authorization": f"Bearer {hive.where.token.read_text()}"}
    return httpx.Client(base_url=hive.hive.run.dashboard_url, headers=headers, timeout=60)


def job_in(text: str) -> str:
    """The ID that a program printed first."""
    found = re.search(r"(raysubmit_\w+) is submitted|Job '(raysubmit_\w+)' submitted", text)
    assert found, text
    return found[1] or found[2]


class TestWithoutTheToken:
    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}], ids=["none", "wrong"])
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/api/jobs/"), ("POST", "/api/jobs/"), ("GET", "/api/version"), ("GET", "/nodes")]
    )
    def test_nothing_is_answered(self, hive: Sandbox, method: str, path: str, headers: dict[str, str]) -> None:
        body = {"entrypoint": "true"} if method == "POST" else None
        answer = httpx.request(method, hive.hive.run.dashboard_url + path, json=body, headers=headers, timeout=60)
        assert answer.status_code in (401, 403), answer.text

    def test_ray_job_submit_is_refused(self, hive: Sandbox, tmp_path: Path) -> None:
        wrong = tmp_path / "token"
        wrong.write_text("wrong")
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ray"), "job", "submit", "--", "true"],
            env=environment(hive) | {"RAY_AUTH_TOKEN_PATH": str(wrong)},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode != 0
        assert re.search("401|403|[Uu]nauth|[Ii]nvalid", done.stdout + done.stderr)


class TestByRest:
    def test_a_command_is_run_and_its_log_is_printed(self, hive: Sandbox) -> None:
        done = rest(hive, "submit", "echo hello from $OPENAI_BASE_URL")
        assert done.returncode == 0, done.stderr
        job = job_in(done.stdout)
        assert f"hello from {hive.hive.run.gateway_url}/v1\n" in done.stdout
        assert f"{job} SUCCEEDED" in done.stdout
        assert "hello from" in rest(hive, "logs", job).stdout
        assert f"{job} SUCCEEDED" in rest(hive, "list").stdout

    def test_one_that_fails_says_how(self, hive: Sandbox) -> None:
        done = rest(hive, "submit", "python -c 'raise SystemExit(\"no such file\")'")
        assert done.returncode == 1
        assert "no such file" in done.stdout
        assert re.search(r"raysubmit_\w+ FAILED: .*exit code 1", done.stdout), done.stdout

    def test_one_that_runs_is_stopped(self, hive: Sandbox, ray: httpx.Client) -> None:
        job = ray.post("/api/jobs/", json={"entrypoint": "echo it runs && sleep 3600"}).json()["submission_id"]
        wait_for("the job runs", lambda: "it runs" in ray.get(f"/api/jobs/{job}/logs").json()["logs"])
        done = rest(hive, "stop", job)
        assert done.returncode == 0, done.stderr
        assert f"{job} STOPPED" in done.stdout

    def test_neither_its_process_nor_its_tasks_land_beside_a_model(self, hive: Sandbox) -> None:
        done = rest(hive, "submit", f"python -c {shlex.quote(WHERE)}")
        assert done.returncode == 0, done.stdout
        assert "beside models: 0 on 1 node" in done.stdout


class TestBySdk:
    def test_a_file_of_questions_is_answered_by_the_served_model(self, hive: Sandbox, ray: httpx.Client) -> None:
        done = run(hive, sys.executable, str(JOBS / "sdk.py"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert answers(done.stdout) == ANSWERS
        # Whoever may list jobs sees no key of the gateway.
        assert JOBS_KEY not in ray.get(f"/api/jobs/{job_in(done.stdout)}").text

    def test_control_c_stops_the_job(self, hive: Sandbox, ray: httpx.Client) -> None:
        with subprocess.Popen(
            [sys.executable, str(JOBS / "sdk.py"), "echo", "it", "runs", "&&", "sleep", "3600"],
            env=environment(hive),
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            seen = ""
            while "it runs" not in seen:
                line = program.stdout.readline()
                assert line, seen
                seen += line
            program.send_signal(signal.SIGINT)
            assert program.wait(RUN_SECONDS) == 1
        job = job_in(seen)
        wait_for("the job ends", lambda: ray.get(f"/api/jobs/{job}").json()["status"] == "STOPPED")


def test_ray_job_submit_sends_the_program_with_its_file(hive: Sandbox) -> None:
    ray = str(Path(sys.executable).parent / "ray")
    entrypoint = ["python", "batch_inference.py", "questions.jsonl", "language"]
    flags = ["--working-dir", str(JOBS), "--entrypoint-num-cpus", "1"]
    done = run(hive, ray, "job", "submit", *flags, "--", *entrypoint)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answers(done.stdout) == ANSWERS
