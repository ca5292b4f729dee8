"""What Serve's answers say."""

from typing import Any

import pytest

from hive.serve_api import applications, deployed_config, reason

TRACEBACK = """The deployment failed to start 3 times in a row. Error:
ray::ServeReplica:m:Model.initialize_and_get_metadata() (pid=1, ip=10.0.0.1, actor_id=ab)
  File "model.py", line 1, in x
    await super().__init__()
serve_app.lease.LeaseError: m asked for 9 GiB; 1 GiB can be had

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "replica.py", line 2, in y
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "replica.py", line 3, in z
serve_app.lease.LeaseError: m asked for 9 GiB; 1 GiB can be had. FIX: lower vram
"""


def details(**app: Any) -> dict[str, Any]:
    deployment = {
        "message": "",
        "target_num_replicas": 1,
        "replicas": [{"replica_id": "r", "state": "RUNNING", "node_ip": "10.0.0.1", "pid": 7}],
    } | app.pop("deployment", {})
    base = {
        "status": "RUNNING",
        "message": "",
        "deployments": {"Model": deployment},
        "deployed_app_config": {"name": "m"},
    }
    return {"applications": {"m": base | app}}


def test_the_reason_is_the_last_exceptions_text() -> None:
    assert reason(TRACEBACK) == "m asked for 9 GiB; 1 GiB can be had. FIX: lower vram"


def test_the_details_of_the_last_exception_stay() -> None:
    text = "RuntimeError: 1 validation error for ModelConfig\ndtype\n  Input should be 'auto' [input_value='x']\n"
    assert (
        reason(TRACEBACK + text)
        == "1 validation error for ModelConfig\ndtype\n  Input should be 'auto' [input_value='x']"
    )


def test_a_plain_message_is_its_own_reason() -> None:
    assert reason("waiting for resources ") == "waiting for resources"


def test_ready_means_every_wanted_replica_runs_and_no_other_is_left() -> None:
    (app,) = applications(details())
    assert app.ready
    assert app.replicas[0].pid == 7


@pytest.mark.parametrize(
    "change",
    [
        {"status": "DEPLOYING"},
        {"deployment": {"target_num_replicas": 2}},
        {"deployment": {"replicas": [{"replica_id": "r", "state": "STARTING"}]}},
        {"deployment": {"target_num_replicas": 0}},
    ],
)
def test_not_ready(change: dict[str, Any]) -> None:
    (app,) = applications(details(**change))
    assert not app.ready
    assert not app.failed


def test_a_failure_carries_the_deployments_reason() -> None:
    (app,) = applications(details(status="DEPLOY_FAILED", deployment={"message": TRACEBACK, "replicas": []}))
    assert app.failed
    assert not applications(details(status="UNHEALTHY"))[0].failed, "a killed replica is being replaced"
    assert app.reason.startswith("m asked for 9 GiB")


def test_a_slow_start_is_no_reason() -> None:
    slow = "Deployment 'Model' in application 'm' has 1 replicas that have taken more than 30s to initialize."
    (app,) = applications(details(status="DEPLOYING", deployment={"message": slow}))
    assert app.reason == ""


def test_the_deployed_config_has_the_shape_of_a_rendered_one() -> None:
    assert deployed_config(details()) == {"applications": [{"name": "m"}]}
