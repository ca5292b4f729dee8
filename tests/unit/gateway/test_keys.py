"""Keys as Kubernetes mounts a Secret: one client's mistake keeps nobody else out, and no key gets into a log."""

from pathlib import Path

import pytest

from gateway import keys

ALICE, BOB = "sk-alices-own-key", "sk-bobs-own-key"


def folder(root: Path, **clients: str | bytes) -> Path:
    for name, content in clients.items():
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_a_client_may_have_several_keys_a_line_each(tmp_path: Path) -> None:
    """So that one can be replaced while it is in use."""
    assert keys.read(folder(tmp_path, alice=f"{ALICE}\nsecond-key\n")) == {"alice": [ALICE, "second-key"]}


@pytest.mark.parametrize("text", [ALICE, f"{ALICE}\n", f"\n\n  {ALICE}\t\n\n", f"{ALICE}\r\n", f"\r\n{ALICE}\r\n\r\n"])
def test_blank_lines_and_spaces_around_a_key_are_no_part_of_it(text: str, tmp_path: Path) -> None:
    """What editors, echo and Windows leave there."""
    assert keys.read(folder(tmp_path, alice=text)) == {"alice": [ALICE]}


@pytest.mark.parametrize(
    "bad",
    [
        "7-chars",
        "sk with spaces",
        "sk-with-ünicode",
        "sk-\x00-control",
        b"sk-\xff\xfe-bytes",
        b"\xef\xbb\xbfsk-with-a-mark",
    ],
    ids=["short", "spaces", "unicode", "control", "bytes", "byte order mark"],
)
def test_a_key_that_no_header_can_carry_is_left_out_and_its_line_told(
    bad: str | bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's other keys, and other clients, stay."""
    text = bad if isinstance(bad, bytes) else bad.encode()
    found = keys.read(folder(tmp_path, alice=ALICE.encode() + b"\n" + text + b"\n", bob=BOB))
    assert found == {"alice": [ALICE], "bob": [BOB]}
    assert "line 2 of client alice" in caplog.text


def test_a_key_of_two_clients_is_the_first_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Envoy refuses all keys where two are alike."""
    found = keys.read(folder(tmp_path, bob=f"{BOB}\n{ALICE}\n", alice=ALICE))
    assert found == {"alice": [ALICE], "bob": [BOB]}
    assert "line 2 of client bob: alice has this key already" in caplog.text


def test_a_key_that_stands_twice_counts_once(tmp_path: Path) -> None:
    assert keys.read(folder(tmp_path, alice=f"{ALICE}\n{ALICE}\n")) == {"alice": [ALICE]}


@pytest.mark.parametrize("name", ["a b", "-a", "a:b", "ä", "a" * 64, "a\nb"])
def test_an_entry_that_can_be_no_client_is_left_out(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name goes into a header and into metrics."""
    (tmp_path / name).write_text(BOB)
    assert keys.read(folder(tmp_path, alice=ALICE)) == {"alice": [ALICE]}
    assert repr(name) in caplog.text


@pytest.mark.parametrize("name", ["a", "A.b-c_1", "9", "a" * 63])
def test_a_name_that_the_chart_takes_is_taken(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(ALICE)
    assert keys.read(tmp_path) == {name: [ALICE]}


def test_no_message_has_a_key_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor a part of one: a log is read by more people than a Secret."""
    bad = ["short", "with a space in the midst", "kéy-with-an-accent"]
    folder(tmp_path, alice="\n".join([ALICE, ALICE, *bad]), bob=ALICE)
    (tmp_path / "not a client").write_text(BOB)
    keys.read(tmp_path)
    assert len(caplog.records) == 6
    for word in (ALICE, BOB, *bad, "midst", "accent"):
        assert word not in caplog.text


def test_kubernetes_own_links_are_no_clients(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mounted Secret is a link for each entry, through `..data`, which moves when the Secret changes."""
    for number, own in enumerate((ALICE, BOB)):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "alice").write_text(own)
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "alice").symlink_to("..data/alice")
    assert keys.read(tmp_path) == {"alice": [ALICE]}
    (tmp_path / "..data_tmp").symlink_to("..1")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert keys.read(tmp_path) == {"alice": [BOB]}
    assert caplog.text == ""


def test_a_folder_a_hidden_file_and_a_link_to_nothing_are_no_clients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing that somebody has to be told of."""
    (tmp_path / ".swp").write_text(BOB)
    (tmp_path / "folder").mkdir()
    (tmp_path / "nothing").symlink_to("nowhere")
    assert keys.read(folder(tmp_path, alice=ALICE)) == {"alice": [ALICE]}
    assert caplog.text == ""


def test_no_secret_is_nobody(tmp_path: Path) -> None:
    """And not everybody."""
    assert keys.read(tmp_path / "missing") == keys.read(tmp_path) == {}
    assert keys.read(folder(tmp_path, alice="\n \n")) == {}
