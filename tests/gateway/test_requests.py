"""What becomes of one request: where it goes, who may send it, and what is said when it can't be served."""

import json
from typing import Any

import httpx
import pytest

from tests.gateway.site import KEYS, SECONDS, Site, wait_for

Json = dict[str, Any]


def error(answer: httpx.Response, status: int) -> Json:
    """The error, which has OpenAI's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    found: Json = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= found.keys()
    return found


@pytest.mark.parametrize("name", ["left", "gpt-4o", "org/left:v1.2", "left-lora"])
def test_a_model_is_found_by_its_name_alias_or_adapter(site: Site, name: str) -> None:
    assert site.chat(name).json()["path"] == "/models/left/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/v1/completions", "/v1/completions"),
        ("/v1/responses", "/v1/responses"),
        ("/v1/embeddings", "/v1/embeddings"),
        ("/v1/rerank", "/v1/rerank"),
        ("/v1/score", "/v1/score"),
        ("/v2/rerank", "/v2/rerank"),
        ("/tokenize", "/tokenize"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/detokenize", "/detokenize"),
        ("/v1/audio/transcriptions", "/v1/audio/transcriptions"),
        ("/models/right/v1/chat/completions", "/v1/chat/completions"),
        ("/models/right/tokenize", "/tokenize"),
    ],
)
def test_every_path_of_the_api_reaches_the_model(site: Site, path: str, there: str) -> None:
    with site.http() as http:
        assert http.post(path, json={"model": "right"}).json()["path"] == f"/models/right{there}"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/load_lora_adapter",
        "/sleep",
        "/metrics",
        "/v1/chat/completions/../../sleep",
        "/models/right/sleep",
        "/models/right/metrics",
        "/models/right/v1/load_lora_adapter",
        "/models/right/v1/chat/completions/../../sleep",
        "/models/right/v1%2Fchat%2Fcompletions%2F..%2F..%2Fsleep",
        "/models/right/v1%5c..%5csleep",
        "/models/right/tokenize/%2e%2e/sleep",
        "/models/left/..%2Fright/sleep",
    ],
)
def test_nothing_but_the_api_is_reachable(site: Site, path: str) -> None:
    before = len(site.dashboard.replicas["right"][0].asked)
    with site.http() as http:
        answer = http.request("POST", httpx.URL(f"{site.run.gateway_url}{path}"), json={"model": "right"})
    assert error(answer, 404)["code"] == "unknown_url"
    assert len(site.dashboard.replicas["right"][0].asked) == before


def test_a_name_with_a_slash_may_be_escaped(site: Site) -> None:
    """The official client does it."""
    with site.http() as http:
        assert http.get("/v1/models/org%2Fnobody").json()["error"]["message"].startswith("The model `org/nobody`")


def test_the_model_may_stand_last_in_a_large_body(site: Site) -> None:
    body = json.dumps({"prompt": "x" * 8 * 2**20, "model": "right"}).encode()
    with site.http() as http:
        answer = http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["bytes"] == len(body)


def test_a_body_over_the_limit_is_refused_with_the_limit(site: Site) -> None:
    answer = site.chat("right", text="x" * 10 * 2**20)
    found = error(answer, 413)
    assert found["code"] == "request_too_large"
    assert "9 MiB" in found["message"]


def test_a_form_names_its_model_in_any_order(site: Site) -> None:
    """And what is inside the file is no field."""
    trap = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nleft\r\n' * 3
    with site.http() as http:
        for fields in (
            {"model": (None, "right"), "file": ("a.wav", trap)},
            {"file": ("a.wav", trap + bytes(range(256)) * 4096), "language": (None, "en"), "model": (None, "gpt-4o")},
        ):
            answer = http.post("/v1/audio/transcriptions", files=fields)
            wanted = "right" if fields["model"][1] == "right" else "left"
            assert answer.json()["path"] == f"/models/{wanted}/v1/audio/transcriptions"
        answer = http.post("/v1/audio/transcriptions", files={"file": ("a.wav", trap)})
    assert error(answer, 400)["param"] == "model"


def test_an_unknown_model_is_told_the_names(site: Site) -> None:
    found = error(site.chat('no"body\\'), 404)
    assert found["code"] == "model_not_found"
    assert found["message"] == 'The model `no"body\\` does not exist. The models are: idle, left, right'
    assert error(site.chat("off"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize("body", [b"{}", b"", b'{"model": ', b"[]", b'{"model": null}', b'{"model": ""}'])
def test_a_body_without_a_model_is_a_bad_request(site: Site, body: bytes) -> None:
    with site.http() as http:
        answer = http.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404)
    assert error(answer, answer.status_code)["param"] == "model"


def test_json_may_say_its_charset(site: Site) -> None:
    with site.http() as http:
        form = {"Content-Type": "application/json; charset=utf-8"}
        answer = http.post("/v1/chat/completions", content=b'{"model": "left"}', headers=form)
    assert answer.json()["path"] == "/models/left/v1/chat/completions"


def test_json_that_is_not_called_json_is_a_bad_request_that_says_so(site: Site) -> None:
    with site.http() as http:
        form = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl sends
        answer = http.post("/v1/chat/completions", content=b'{"model": "left"}', headers=form)
    assert "Content-Type: application/json" in error(answer, 400)["message"]


def test_a_model_without_replicas_is_not_ready_yet(site: Site) -> None:
    answer = site.chat("idle")
    found = error(answer, 503)
    assert found["code"] == "model_not_ready"
    assert "idle" in found["message"]
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-0123456789"}, {"X-Hive-Client": "alice"}])
def test_who_has_no_key_is_not_served(site: Site, headers: dict[str, str]) -> None:
    for path in ("/v1/chat/completions", "/v1/models", "/models/right/v1/chat/completions", "/nothing"):
        answer = httpx.post(f"{site.run.gateway_url}{path}", json={"model": "right"}, headers=headers)
        assert error(answer, 401)["code"] == "invalid_api_key"


def test_the_replica_learns_the_client_and_not_the_key(site: Site) -> None:
    """Whatever the client says of itself, and nothing of what only the gateway may say."""
    forged = {"X-Hive-Client": "root", "X-Request-Disconnect-Disabled": "1", "X-Request-Timeout-Seconds": "1"}
    with httpx.Client(base_url=site.run.gateway_url, headers={"X-Api-Key": KEYS["alice"]} | forged) as http:
        asked = http.post("/v1/completions", json={"model": "right"}).json()
    headers = {name.lower(): value for name, value in asked["headers"].items()}
    assert headers["x-hive-client"] == "alice"
    assert not {"authorization", "x-api-key", "x-request-disconnect-disabled", "x-request-timeout-seconds"} & set(
        headers
    )
    assert KEYS["alice"] not in json.dumps(asked)


def test_a_client_uses_no_model_that_it_may_not(site: Site) -> None:
    assert site.chat("right", "bob").status_code == 200
    for name in ("left", "gpt-4o", "left-lora"):
        assert error(site.chat(name, "bob"), 403)["code"] == "model_not_allowed"
    with site.http("bob") as http:
        answer = http.post("/models/left/v1/chat/completions", json={"model": "right"})
        assert error(answer, 403)["message"] == "The client bob may not use the model left"


def test_the_list_has_what_serves_and_what_the_client_may_use(site: Site) -> None:
    with site.http() as http:
        listed = http.get("/v1/models").json()
        assert [card["id"] for card in listed["data"]] == ["left", "right"]
        card = http.get("/v1/models/left").json()
        assert card == {
            "id": "left",
            "object": "model",
            "max_model_len": 512,
            "tasks": ["generate"],
            "owned_by": "hive",
            "model": "left",
        }
        assert "left, right" in error(http.get("/v1/models/idle"), 404)["message"]
    with site.http("bob") as http:
        assert [card["id"] for card in http.get("/v1/models").json()["data"]] == ["right"]


def test_a_client_that_asks_too_often_is_told_when_to_come_back(site: Site) -> None:
    (site.where.keys / "carol").write_text("sk-carol-0123456789")
    with httpx.Client(base_url=site.run.gateway_url, headers={"Authorization": "Bearer sk-carol-0123456789"}) as http:
        wait_for("carol's key is good", lambda: http.get("/nothing").status_code in (404, 429))
        answers = [http.post("/v1/completions", json={"model": "right"}) for _ in range(3)]
    found = error(answers[-1], 429)
    assert found["code"] == "rate_limit_exceeded"
    assert found["message"] == "The client carol may ask 2 times in a minute"
    assert answers[-1].headers["retry-after"] == "30"
    assert site.chat("right").status_code == 200, "others are not kept waiting"


def test_a_request_that_dies_with_its_replica_is_not_sent_to_the_next(site: Site) -> None:
    """One request could take all replicas down."""
    (first,) = site.dashboard.replicas["left"]
    second = site.add("left")
    before = len(first.asked) + len(second.asked)
    answer = site.chat("left", do="die")
    assert error(answer, 502)["code"] == "replica_died"
    assert answer.headers["x-should-retry"] == "false", "nor by OpenAI's clients"
    assert len(first.asked) + len(second.asked) == before + 1
    site.become("left", [first])
    second.end()


def test_a_replica_that_sends_nothing_for_too_long_ends_with_an_error(site: Site) -> None:
    answer = site.chat("right", do="hang")
    found = error(answer, 504)
    assert answer.headers["x-should-retry"] == "false", "it would only take as long again"
    assert found["code"] == "model_timeout"
    assert "8 seconds" in found["message"]
    assert site.dashboard.replicas["right"][0].gone.wait(SECONDS)


def test_a_large_answer_comes_whole(site: Site) -> None:
    """As a batch of embeddings is."""
    with site.http() as http:
        answer = http.post("/v1/embeddings", json={"model": "right", "do": "large"})
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 48 * 2**20


def test_headers_without_end_are_refused(site: Site) -> None:
    with site.http() as http:
        answer = http.get("/v1/models", headers={"X-Long": "x" * 40_000})
    assert answer.status_code == 431


def test_metrics_and_log_know_model_client_and_tokens_and_no_key(site: Site) -> None:
    def bobs(line: Json) -> bool:
        return bool(line["client"] == "bob" and line["status"] == 200 and line["model"])

    assert site.chat("right", "bob").status_code == 200
    wait_for("it is logged", lambda: any(map(bobs, site.log())))
    line = next(filter(bobs, site.log()))
    assert (line["model"], line["prompt_tokens"], line["completion_tokens"]) == ("right", 7, 3)
    assert line["path"] == "/v1/chat/completions"
    metrics = site.metrics()
    assert 'envoy_hive_requests{model="right",client="bob",code="200"}' in metrics
    assert 'envoy_hive_completion_tokens{model="right",client="bob"}' in metrics
    assert 'envoy_hive_first_byte_milliseconds_bucket{model="right",client="bob",le="' in metrics
    for text in (metrics, (site.where.logs / "envoy.log").read_text(), (site.where.logs / "discovery.log").read_text()):
        assert not any(key in text for key in KEYS.values())
