"""Nothing of the doctor's job stays in Ray, whatever Ray does with it."""

import httpx
import pytest

from hive.doctor import jobs
from hive.doctor.jobs import JobsApi

RUNNING, SUCCEEDED, FAILED = "RUNNING", "SUCCEEDED", "FAILED"


class FakeRay:
    """A dashboard with one job, which comes back after it was deleted, as Ray's does."""

    def __init__(self, comes_back: int) -> None:
        self.status: str | None = None
        self.comes_back = comes_back
        self.asked_since = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "POST", "/api/jobs/":
                self.status = RUNNING
                return httpx.Response(200, json={"submission_id": "raysubmit_1"})
            case "GET", "/api/jobs/raysubmit_1":
                self.status = SUCCEEDED
                return httpx.Response(200, json={"status": self.status})
            case "GET", "/api/jobs/raysubmit_1/logs":
                return httpx.Response(200, json={"logs": "a line"})
            case "DELETE", _:
                return self._delete()
        return httpx.Response(200, json={})

    def _delete(self) -> httpx.Response:
        if self.status:
            self.status = None
            self.asked_since = 0
            return httpx.Response(200, json={})
        self.asked_since += 1
        if self.comes_back and self.asked_since == jobs.LOOKS - 1:
            self.comes_back -= 1
            self.status = FAILED
        return httpx.Response(404)


@pytest.mark.parametrize("comes_back", [0, 1, 3])
def test_a_job_that_is_written_down_again_is_deleted_again(comes_back: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0)
    ray = FakeRay(comes_back)
    api = JobsApi("http://ray", {})
    api._http = httpx.Client(base_url="http://ray", transport=httpx.MockTransport(ray))
    assert api.stress() == "a line"
    assert (ray.status, ray.comes_back) == (None, 0)
