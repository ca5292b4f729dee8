"""Stock Ray Serve LLM as its documentation starts it: `python -m benchmarks.serving_speed.stock_app SPEC`.

SPEC is JSON: {"port", "model", "source", "engine_kwargs"}. Joins the Ray of RAY_ADDRESS; waits to be ended.
"""

import json
import os
import sys

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    ray.init(address="auto", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": spec["port"]})
    config = LLMConfig(
        model_loading_config={"model_id": spec["model"], "model_source": spec["source"]},
        accelerator_config={"kind": "cpu"},  # without it, Ray waits for a GPU
        engine_kwargs=spec["engine_kwargs"],
    )
    serve.run(build_openai_app({"llm_configs": [config]}), route_prefix="/")
    os.execvp("sleep", ["sleep", "infinity"])  # Serve goes on without its driver, which would keep a gigabyte
