"""Ray's job API by REST, with nothing but httpx: submit a command and follow it, read its log, stop it, list all.

python examples/jobs/rest.py submit COMMAND | logs ID | stop ID | list

RAY_API_SERVER_ADDRESS is Ray's dashboard, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH its token.
"""

import os
import sys
import time
from pathlib import Path

import httpx

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
TOKEN = os.environ.get("RAY_AUTH_TOKEN") or Path(os.environ.get("RAY_AUTH_TOKEN_PATH", ".hive/auth_token")).read_text()
ray = httpx.Client(
    base_url=os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"),
    headers={"Authorization": f"Bearer {TOKEN.strip()}"},
    event_hooks={"response": [httpx.Response.raise_for_status]},
)


def submit(command: str) -> str:
    """The job's ID. A CPU for its driver takes it to a worker for jobs; without one it would run on the head."""
    return str(ray.post("/api/jobs/", json={"entrypoint": command, "entrypoint_num_cpus": 1}).json()["submission_id"])


def logs(job: str) -> str:
    return str(ray.get(f"/api/jobs/{job}/logs").json()["logs"])


def follow(job: str) -> str:
    """Print what it prints, until it ends; the last line says how."""
    shown = 0
    while True:
        found = ray.get(f"/api/jobs/{job}").json()
        text = logs(job)
        print(text[shown:], end="", flush=True)
        shown = len(text)
        if found["status"] in ENDED:
            print(f"{job} {found['status']}: {found['message']}")
            return str(found["status"])
        time.sleep(1)


def main(action: str, *arguments: str) -> int:
    if action == "submit":
        job = submit(" ".join(arguments))
        print(f"{job} is submitted")
        return 0 if follow(job) == "SUCCEEDED" else 1
    if action == "logs":
        print(logs(*arguments), end="")
    elif action == "stop":
        ray.post(f"/api/jobs/{arguments[0]}/stop")
        follow(*arguments)
    else:
        for found in ray.get("/api/jobs/").json():
            print(found["submission_id"], found["status"], found["entrypoint"])
    return 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["list"])))
