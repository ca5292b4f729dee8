"""What a checkpoint holds, without reading its weights: config.json and the headers of the safetensors files, from a
folder or from the hub by ranged reads. The only module that looks into checkpoints.

The files are those that vLLM loads (vllm/model_executor/model_loader/default_loader.py): the ones that
model.safetensors.index.json names, or else every *.safetensors in the root. Where a repository holds the same weights
twice, as consolidated*.safetensors too, one copy is counted.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from serve_app.weights import Tensor
from vram_agent.api import human

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER = "tokenizer.json"
INDEX = "model.safetensors.index.json"
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.gguf")
# What trainers leave beside the weights (vllm/model_executor/model_loader/weight_utils.py).
NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")

# The format's own limit (safetensors, MAX_HEADER_SIZE).
MAX_HEADER_BYTES = 100_000_000
LENGTH_BYTES = 8
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
HUB_CONNECTIONS = 8


class CheckpointError(ValueError):
    """The checkpoint can't be read; says what is wrong and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A model before it is loaded.

    Weights that are not safetensors stand in `tensors` as one of dtype OPAQUE per file.
    """

    config: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    tokenizer_bytes: int = 0  # of tokenizer.json


def is_folder(source: str) -> bool:
    """Whether a model's or an adapter's `source` is a folder, and not a hub id."""
    return source.startswith(("./", "/"))


def read_adapter_rank(folder: Path) -> int:
    """The rank of the LoRA adapter in a folder, in PEFT's format.

    Raises:
        CheckpointError: no adapter_config.json, or a damaged one.
    """
    file = folder / ADAPTER_CONFIG
    if not file.exists():
        raise CheckpointError(f"{folder} has no {ADAPTER_CONFIG}. FIX: put the adapter there, in the format of PEFT")
    try:
        return _rank(json.loads(file.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} names no rank: {error!r}. FIX: copy the adapter there again") from error


def _rank(config: Mapping[str, Any]) -> int:
    """Modules may have a rank of their own: vLLM's slots are as large as the largest."""
    return max(int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values()), 1)


@dataclass(frozen=True)
class _Source:
    """A place with files: their sizes in bytes by name, and how to open one."""

    name: str
    sizes: Mapping[str, int]
    open: Callable[[str], BinaryIO]
    mend: str


def read_folder(folder: Path) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        CheckpointError: no config.json, no weights, damaged ones, or some that this user may not read.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder. FIX: put the model there")
    try:
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        return _read(_Source(str(folder), sizes, lambda name: (folder / name).open("rb"), "copy the model there again"))
    except PermissionError as error:
        raise CheckpointError(
            f"{error.filename} may not be read by user {os.getuid()}. FIX: chmod -R a+rX {folder}"
        ) from error


def read_hub(repository: str, revision: str | None = None) -> Checkpoint:
    """The checkpoint of a model on the hub, from config.json, the index and the headers: kilobytes of gigabytes.

    huggingface_hub takes address and token from the environment, as it does for the download.

    Raises:
        CheckpointError: as above, or there is no such model, or the hub is out of reach.
    """
    with _hub(repository, revision) as source:
        return _read(source)


def read_hub_adapter_rank(repository: str) -> int:
    """The rank of a LoRA adapter on the hub.

    Raises:
        CheckpointError: as above.
    """
    with _hub(repository) as source:
        if ADAPTER_CONFIG not in source.sizes:
            raise CheckpointError(f"{source.name} has no {ADAPTER_CONFIG}. FIX: name an adapter in the format of PEFT")
        config = _json(source, ADAPTER_CONFIG)
        with _damage(source, ADAPTER_CONFIG):
            return _rank(config)


@contextmanager
def _hub(repository: str, revision: str | None = None) -> Iterator[_Source]:
    """A repository's root, and whatever is wrong on the way there told with its mend."""
    from huggingface_hub import HfFileSystem
    from huggingface_hub.errors import GatedRepoError

    if repository.count("/") != 1:
        raise CheckpointError(f"{repository!r} is no model of the hub. FIX: name it as owner/name")
    root = f"{repository}@{revision}" if revision else repository
    try:
        hub = HfFileSystem(skip_instance_cache=True)
        sizes = {
            Path(entry["name"]).name: int(entry["size"])
            for entry in hub.ls(root, detail=True)
            if isinstance(entry, dict) and entry["type"] == "file"
        }
        # Without a cache a read is one request for exactly its bytes.
        yield _Source(
            f"{repository} on the hub",
            sizes,
            lambda name: hub.open(f"{root}/{name}", "rb", cache_type="none"),
            "upload it again, or name another revision",
        )
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated on the hub. FIX: accept its terms there and set HF_TOKEN"
        ) from error
    except FileNotFoundError as error:
        raise CheckpointError(
            f"the hub has no {root}, or does not show it without a token. FIX: check the name, or set HF_TOKEN"
        ) from error
    except Exception as error:  # huggingface_hub lets those of its HTTP library through, which is not always the same
        raise CheckpointError(
            f"{repository}: the hub does not answer: {error}. FIX: check the connection, HF_ENDPOINT and "
            "HF_HUB_OFFLINE, or name a folder with the model"
        ) from error


def _read(source: _Source) -> Checkpoint:
    if CONFIG not in source.sizes:
        raise CheckpointError(f"{source.name} has no {CONFIG}. FIX: {source.mend}, in the Hugging Face format")
    config = _json(source, CONFIG)
    with ThreadPoolExecutor(HUB_CONNECTIONS) as pool:
        headers = pool.map(lambda file: _header(source, file), _safetensors(source))
        tensors = [tensor for header in headers for tensor in header]
    if not tensors:
        others = _matching(source, *OTHER_WEIGHTS)
        tensors = [Tensor(file, "OPAQUE", (source.sizes[file],), source.sizes[file]) for file in others]
    if not tensors:
        raise CheckpointError(
            f"{source.name} has no weights (*.safetensors, {', '.join(OTHER_WEIGHTS)}). FIX: {source.mend}"
        )
    return Checkpoint(config, tuple(tensors), source.sizes.get(TOKENIZER, 0))


def _safetensors(source: _Source) -> list[str]:
    """The files that vLLM would load."""
    if INDEX in source.sizes:
        weight_map = _json(source, INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{source.name}: {INDEX} has no weight_map. FIX: {source.mend}")
        files = sorted(set(weight_map.values()))
        missing = [file for file in files if file not in source.sizes]
        if missing:
            raise CheckpointError(
                f"{source.name}: {INDEX} names {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
                f"not there. FIX: {source.mend}"
            )
        return files
    files = _matching(source, "*.safetensors")
    return [file for file in files if not fnmatch(file, "consolidated*")] or files


def _matching(source: _Source, *patterns: str) -> list[str]:
    return sorted(
        name for name in source.sizes if name not in NOT_WEIGHTS and any(fnmatch(name, each) for each in patterns)
    )


def _json(source: _Source, file: str) -> dict[str, Any]:
    with source.open(file) as opened:
        text = opened.read(source.sizes[file])
    with _damage(source, file):
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        return found


def _header(source: _Source, file: str) -> list[Tensor]:
    """The tensors of one file: 8 bytes of length, little endian, then JSON, then the data that the offsets speak of."""
    size = source.sizes[file]
    with _damage(source, file):
        if size < LENGTH_BYTES:
            raise ValueError(f"it has {size} bytes")
        with source.open(file) as opened:
            length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
            data = size - LENGTH_BYTES - length
            if data < 0 or length > MAX_HEADER_BYTES:
                raise ValueError(f"its header says {length} bytes, the file has {human(size)}")
            header = json.loads(opened.read(length))
        return [_tensor(name, entry, data) for name, entry in header.items() if name != "__metadata__"]


def _tensor(name: str, entry: Mapping[str, Any], data: int) -> Tensor:
    """One entry of a header, checked against itself and the bytes of data behind it."""
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in BITS:
        raise ValueError(f"{name} has dtype {dtype}, which is none of {', '.join(BITS)}")
    if (end - start) * 8 != prod(shape) * BITS[dtype]:
        raise ValueError(f"{name} is {dtype} of shape {list(shape)}, but has {end - start} bytes")
    if not 0 <= start <= end <= data:
        raise ValueError(f"{name} ends at byte {end} of {data}; the file is cut short")
    return Tensor(name, dtype, shape, end - start)


@contextmanager
def _damage(source: _Source, file: str) -> Iterator[None]:
    """Whatever is wrong inside a file, told with its name."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{source.name}: {file} is damaged: {told}. FIX: {source.mend}") from error
