"""Ray's job API by its SDK: send a program with its files, follow what it prints, stop it on Ctrl-C. Needs Ray.

python examples/jobs/sdk.py [COMMAND]     without a command: batch_inference.py over questions.jsonl

RAY_API_SERVER_ADDRESS is Ray's dashboard, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH its token, with RAY_AUTH_MODE=token.
"""

import asyncio
import os
import sys
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient

client = JobSubmissionClient(os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"))


async def follow(job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def main() -> int:
    job = client.submit_job(
        entrypoint=" ".join(sys.argv[1:]) or "python batch_inference.py questions.jsonl",
        runtime_env={"working_dir": str(Path(__file__).parent)},  # sent along; no secrets in it, nor in env_vars here
        entrypoint_num_cpus=1,  # to a worker for jobs; without it the program would run on the head
    )
    print(f"{job} is submitted")
    try:
        asyncio.run(follow(job))
    except KeyboardInterrupt:
        client.stop_job(job)
    found = client.get_job_info(job)
    print(f"{job} {found.status}: {found.message}")
    return 0 if found.status == JobStatus.SUCCEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
