"""Ray's jobs API, as far as `hive doctor --deep` asks it."""

import contextlib
import shlex
import time
from importlib import resources

import httpx

from hive.errors import HiveError
from hive.ray_api import Json, RayApi

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
JOB_SECONDS = 180
END_SECONDS = 30
POLL_SECONDS = 0.5
LOOKS = 8  # four seconds; Ray looks after its jobs once a second


class JobsApi(RayApi):
    """The jobs of one dashboard."""

    def version(self) -> Json:
        found: Json = self._ask("GET", "/api/version").json()
        return found

    def jobs(self) -> list[Json]:
        found: list[Json] = self._ask("GET", "/api/jobs/").json()
        return found

    def stress(self) -> str:
        """Run `stress_job` to its end and return what it printed. Nothing of it stays, however this ends.

        Raises:
            HiveError: it did not end in time.
        """
        script = resources.files("hive.doctor").joinpath("stress_job.py").read_text()
        body = {"entrypoint": shlex.join(["python", "-c", script]), "metadata": {"hive": "doctor"}}
        job: str = self._ask("POST", "/api/jobs/", json=body).json()["submission_id"]
        try:
            deadline = time.monotonic() + JOB_SECONDS
            while (found := self._ask("GET", f"/api/jobs/{job}").json())["status"] not in ENDED:
                if time.monotonic() > deadline:
                    raise HiveError(f"Ray's job {job} did not end in {JOB_SECONDS} s", "see Ray's dashboard, Jobs")
                time.sleep(POLL_SECONDS)
            logs: str = self._ask("GET", f"/api/jobs/{job}/logs").json()["logs"]
            return logs if found["status"] == "SUCCEEDED" else f"{logs}\n{found['message']}"
        finally:
            self._end(job)

    def _end(self, job: str) -> None:
        """Delete it until it stays away: one that was just stopped can't be deleted yet, and one that was deleted
        before Ray saw its end is written down again, as failed.
        """
        with contextlib.suppress(httpx.HTTPError):  # what was found counts, or the error that ended it
            self._http.post(f"/api/jobs/{job}/stop")
            deadline = time.monotonic() + END_SECONDS
            away = 0
            while away < LOOKS and time.monotonic() < deadline:
                is_away = self._http.delete(f"/api/jobs/{job}").status_code == httpx.codes.NOT_FOUND
                away = away + 1 if is_away else 0
                time.sleep(POLL_SECONDS)
