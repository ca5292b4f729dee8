"""One question to one model: what `helm test` and `hive doctor --deep` ask."""

import httpx

ANSWER_SECONDS = 120


def ask(gateway: str, name: str, key: str) -> httpx.Response:
    """The smallest question that the kind of model takes: a completion, else an embedding, else its card alone.

    Args:
        gateway: its address, without /v1.
        name: of the model.
        key: empty where none is asked for.

    Raises:
        httpx.HTTPError: the gateway does not answer.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=gateway, headers=headers, timeout=ANSWER_SECONDS) as client:
        answer = client.post("/v1/completions", json={"model": name, "prompt": "Hello", "max_tokens": 1})
        if answer.status_code in (400, 404, 501):  # this model does not complete
            answer = client.post("/v1/embeddings", json={"model": name, "input": "Hello"})
        if answer.status_code in (400, 404, 501):
            answer = client.get(f"/v1/models/{name}")
        return answer
