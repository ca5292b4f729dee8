"""Headers from folders and, by ranged reads of the real huggingface_hub, from a hub: an HTTP server of this test."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.checkpoint import BITS, CONFIG, INDEX, CheckpointError, read_adapter_rank, read_folder, read_hub
from serve_app.weights import Tensor

LLAMA = {"architectures": ["LlamaForCausalLM"]}
ROOT = Path(__file__).parents[3]

Header = dict[str, Any]


def header_of(*tensors: tuple[str, str, list[int]]) -> Header:
    """A right header: tensors behind each other."""
    header: Header = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, dtype, shape in tensors:
        bits = BITS[dtype]
        for side in shape:
            bits *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + bits // 8]}
        start += bits // 8
    return header


def write(path: Path, header: Header, data: int | None = None) -> int:
    """A safetensors file with a hole instead of numbers. Returns the bytes in front of them."""
    text = json.dumps(header).encode()
    if data is None:
        data = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + data)
    return 8 + len(text)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / CONFIG).write_text(json.dumps(LLAMA))
    return tmp_path


# -- folders ---------------------------------------------------------------------------------------------------------


def test_config_and_tensors_of_every_file(folder: Path) -> None:
    write(folder / "model-1.safetensors", header_of(("a.weight", "BF16", [2, 3]), ("a.scale", "F32", [])))
    write(folder / "model-2.safetensors", header_of(("b.weight", "F8_E4M3", [5])))
    found = read_folder(folder)
    assert found.config == LLAMA
    assert found.tensors == (
        Tensor("a.weight", "BF16", (2, 3), 12),
        Tensor("a.scale", "F32", (), 4),
        Tensor("b.weight", "F8_E4M3", (5,), 5),
    )


@given(dtype=st.sampled_from(sorted(BITS)), rows=st.integers(0, 5))
def test_every_dtype_has_its_bytes(tmp_path_factory: pytest.TempPathFactory, dtype: str, rows: int) -> None:
    """Sub-byte ones too; 8 columns end at a byte for every one of them."""
    folder = tmp_path_factory.mktemp("dtype")
    (folder / CONFIG).write_text("{}")
    write(folder / "model.safetensors", header_of(("t", dtype, [rows, 8])))
    assert read_folder(folder).tensors == (Tensor("t", dtype, (rows, 8), rows * BITS[dtype]),)


def test_the_dtypes_are_those_of_safetensors(tmp_path: Path) -> None:
    """Its own reader takes every one of them."""
    from safetensors import safe_open

    write(tmp_path / "all.safetensors", header_of(*((dtype, dtype, [8]) for dtype in BITS)))
    with safe_open(tmp_path / "all.safetensors", framework="np") as opened:
        assert sorted(opened.keys()) == sorted(BITS)


def test_only_files_of_the_index_count(folder: Path) -> None:
    write(folder / "model-1.safetensors", header_of(("a", "U8", [1])))
    write(folder / "model-2.safetensors", header_of(("b", "U8", [2])))
    for other in ("model.safetensors", "consolidated.safetensors", "adapter.safetensors"):
        write(folder / other, header_of(("c", "U8", [100])))
    (folder / "original").mkdir()
    write(folder / "original" / "model-1.safetensors", header_of(("a", "U8", [100])))
    weight_map = {"a": "model-1.safetensors", "b": "model-2.safetensors", "b2": "model-2.safetensors"}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))
    assert [tensor.name for tensor in read_folder(folder).tensors] == ["a", "b"]


def test_a_second_copy_in_mistrals_format_does_not_count(folder: Path) -> None:
    write(folder / "consolidated.safetensors", header_of(("layers.0.attention.wq.weight", "U8", [7])))
    assert [tensor.bytes for tensor in read_folder(folder).tensors] == [7]
    write(folder / "model.safetensors", header_of(("a", "U8", [7])))
    assert [tensor.name for tensor in read_folder(folder).tensors] == ["a"]


def test_other_formats_are_one_opaque_tensor_per_file(folder: Path) -> None:
    for name, size in {"pytorch_model.bin": 50, "model.gguf": 20, "training_args.bin": 3, "notes.txt": 9}.items():
        (folder / name).write_bytes(b"x" * size)
    assert read_folder(folder).tensors == (
        Tensor("model.gguf", "OPAQUE", (20,), 20),
        Tensor("pytorch_model.bin", "OPAQUE", (50,), 50),
    )
    write(folder / "model.safetensors", header_of(("a", "U8", [1])))
    assert [tensor.name for tensor in read_folder(folder).tensors] == ["a"]


def test_what_is_missing_is_told_with_its_mend(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is no folder\. FIX: put the model there"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no config\.json\. FIX: copy the model there again"):
        read_folder(tmp_path)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(CheckpointError, match=r"has no weights \(\*\.safetensors, \*\.bin.*FIX: "):
        read_folder(tmp_path)
    write(tmp_path / "model.safetensors", header_of())
    with pytest.raises(CheckpointError, match=r"has no weights"):
        read_folder(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    write(tmp_path / "model-2.safetensors", header_of(("b", "U8", [1])))
    with pytest.raises(CheckpointError, match=r"index\.json names model-1\.safetensors, which is not there\. FIX: "):
        read_folder(tmp_path)


def test_a_file_that_may_not_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pods have another user than who copied the model. Root may read all, so the refusal is made here."""

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"may not be read by user \d+. FIX: chmod -R a\+rX"):
        read_folder(folder)


def test_an_adapters_rank_is_its_largest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json\. FIX: "):
        read_adapter_rank(tmp_path)
    for text, rank in {'{"r": 8}': 8, '{"r": 8, "rank_pattern": {"q_proj": 24}}': 24}.items():
        (tmp_path / "adapter_config.json").write_text(text)
        assert read_adapter_rank(tmp_path) == rank
    for text in ("{", "[]", "{}", '{"r": null}'):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"names no rank: .*FIX: "):
            read_adapter_rank(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (CONFIG, "{", r"config\.json is damaged: Expecting property name"),
        (CONFIG, "[]", r"config\.json is damaged: it is no JSON object"),
        (INDEX, "{}", r"index\.json has no weight_map"),
        (INDEX, '{"weight_map": []}', r"index\.json has no weight_map"),
    ],
)
def test_damaged_json_is_told(folder: Path, file: str, text: str, told: str) -> None:
    write(folder / "model.safetensors", header_of(("a", "U8", [1])))
    (folder / file).write_text(text)
    with pytest.raises(CheckpointError, match=told + r".*FIX: copy the model there again"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it has 0 bytes"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "its header says 1099511627776 bytes, the file has"),
        ((3).to_bytes(8, "little") + b"{}", "its header says 3 bytes"),
        ((2).to_bytes(8, "little") + b"{]", "Expecting property name"),
        ((2).to_bytes(8, "little") + b"[]", "has no attribute 'items'"),
        ((7).to_bytes(8, "little") + b'{"a":1}', "is not subscriptable"),
        ((8).to_bytes(8, "little") + b'{"a":{}}', "'dtype' is missing"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "can't decode byte"),
    ],
)
def test_a_damaged_header_is_told(folder: Path, content: bytes, told: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors is damaged: .*{re.escape(told)}.*FIX: "):
        read_folder(folder)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"dtype": "F16", "shape": [3], "data_offsets": [0, 5]}, "t is F16 of shape [3], but has 5 bytes"),
        ({"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}, "t is F4 of shape [3], but has 2 bytes"),
        ({"dtype": "F3", "shape": [8], "data_offsets": [0, 3]}, "t has dtype F3, which is none of BOOL, U8"),
        ({"dtype": "U8", "shape": [8], "data_offsets": [4, 12]}, "t ends at byte 12 of 8; the file is cut short"),
        ({"dtype": "U8", "shape": [8], "data_offsets": [-4, 4]}, "the file is cut short"),
    ],
)
def test_offsets_that_do_not_fit_are_told(folder: Path, entry: dict[str, Any], told: str) -> None:
    write(folder / "model.safetensors", {"t": entry}, data=8)
    with pytest.raises(CheckpointError, match=re.escape(told)):
        read_folder(folder)


# -- the hub ---------------------------------------------------------------------------------------------------------


@dataclass
class Hub:
    """The three routes of a hub that a reader needs, for one model, and what it served of each file in bytes."""

    folder: Path
    served: dict[str, int] = field(default_factory=dict)
    gated: bool = False
    url: str = ""

    def answer(self, path: str, asked: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path and its Range."""
        if path.startswith("/api/models/owner/model/tree/"):
            files = [
                {"type": "file", "path": f.name, "oid": "0", "size": f.stat().st_size} for f in self.folder.iterdir()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(files).encode()
        if path.startswith("/api/models/owner/model"):
            return 200, {"Content-Type": "application/json"}, b'{"_id": "0", "id": "owner/model", "sha": "0"}'
        if not path.startswith("/owner/model/resolve/main/"):
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        name = path.rpartition("/")[2]
        with (self.folder / name).open("rb") as file:
            first, last = (int(end) for end in (asked or "").removeprefix("bytes=").split("-"))
            file.seek(first)
            body = file.read(last - first + 1)
        self.served[name] = self.served.get(name, 0) + len(body)
        return 206, {"Content-Range": f"bytes {first}-{last}/{(self.folder / name).stat().st_size}"}, body


@pytest.fixture(name="hub")
def _hub(folder: Path) -> Iterator[Hub]:
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path.partition("?")[0], self.headers["Range"])
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def read_from(url: str, repository: str = "owner/model", reader: str = "read_hub", **environment: str) -> Any:
    """What a process of its own reads, as JSON: huggingface_hub takes its address once, at import."""
    code = f"""
import dataclasses, json
from serve_app.checkpoint import CheckpointError, {reader}
try:
    print(json.dumps({reader}({repository!r}), default=dataclasses.asdict))
except CheckpointError as error:
    print(json.dumps(str(error)))
"""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=inherited | {"HF_ENDPOINT": url, "HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_of_a_large_model_on_the_hub_only_headers_are_read(hub: Hub) -> None:
    shard = 30 << 30
    names = [f"model-{number}-of-3.safetensors" for number in (1, 2, 3)]
    read = {name: write(hub.folder / name, header_of((name, "BF16", [shard // 2]))) for name in names}
    write(hub.folder / "consolidated.safetensors", header_of(("all", "BF16", [3 * shard // 2])))
    (hub.folder / INDEX).write_text(json.dumps({"weight_map": {name: name for name in names}}))
    found = read_from(hub.url)
    assert found["config"] == LLAMA
    assert [(tensor["name"], tensor["bytes"]) for tensor in found["tensors"]] == [(name, shard) for name in names]
    whole = {name: (hub.folder / name).stat().st_size for name in (CONFIG, INDEX)}
    assert hub.served == read | whole
    assert sum(hub.served.values()) < 2048


def test_the_rank_of_an_adapter_on_the_hub(hub: Hub) -> None:
    assert "owner/model on the hub has no adapter_config.json" in read_from(hub.url, reader="read_hub_adapter_rank")
    (hub.folder / "adapter_config.json").write_text('{"r": 8, "rank_pattern": {"q_proj": 32}}')
    assert read_from(hub.url, reader="read_hub_adapter_rank") == 32
    (hub.folder / "adapter_config.json").write_text("{}")
    assert "adapter_config.json is damaged: 'r' is missing" in read_from(hub.url, reader="read_hub_adapter_rank")


def test_what_is_wrong_on_the_hub_is_told(hub: Hub) -> None:
    (hub.folder / CONFIG).unlink()
    assert "owner/model on the hub has no config.json. FIX: upload it again" in read_from(hub.url)
    assert "the hub has no owner/other, or does not show it without a token. FIX: " in read_from(hub.url, "owner/other")
    (hub.folder / CONFIG).write_text("{}")
    write(hub.folder / "model.safetensors", header_of(("a", "U8", [9])), data=4)
    assert "model.safetensors is damaged: a ends at byte 9 of 4; the file is cut short" in read_from(hub.url)
    hub.gated = True
    assert "owner/model is gated on the hub. FIX: accept its terms there and set HF_TOKEN" in read_from(hub.url)


def test_a_hub_out_of_reach_is_told() -> None:
    assert "the hub does not answer: " in read_from("http://127.0.0.1:9")
    assert "the hub does not answer: " in read_from("http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    with pytest.raises(CheckpointError, match=r"'gpt2' is no model of the hub\. FIX: name it as owner/name"):
        read_hub("gpt2")
