"""What a person uses: the `hive` command and the Python client. Imports nothing of Ray or torch.

`target` is one Hive, whichever: `local` runs it on this machine, `cluster` is a Helm release. `deploying` edits values
through it, `values_file` writes them. `rendering`, `templates`, `placement`, `changes`, `settling`, `ray_nodes`
and `keys_of_all` are functions of data; `ray_api`, `serve_api`, `replica_logs`, `agent_api` and `catalog` ask a running
Hive; `plan` says before what a values file needs, `doctor` what is wrong, `bench` how fast it is; `views`, `bars` and
`usage` draw; `commands` and `cli` are the command; `client` is behind the names below.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hive.client.asking import AnswerError, Options, Prompt
    from hive.client.inference import a_inference, a_inference_batch, inference, inference_batch
    from hive.client.ray_hive import Deployed, RayHive
    from hive.errors import HiveError

__all__ = [
    "AnswerError",
    "Deployed",
    "HiveError",
    "Options",
    "Prompt",
    "RayHive",
    "a_inference",
    "a_inference_batch",
    "inference",
    "inference_batch",
]
# Read when they are used, so that `import hive` costs nothing.
_HOMES = {
    "AnswerError": "hive.client.asking",
    "Deployed": "hive.client.ray_hive",
    "HiveError": "hive.errors",
    "Options": "hive.client.asking",
    "Prompt": "hive.client.asking",
    "RayHive": "hive.client.ray_hive",
    "a_inference": "hive.client.inference",
    "a_inference_batch": "hive.client.inference",
    "inference": "hive.client.inference",
    "inference_batch": "hive.client.inference",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hive' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
