"""The list of published checkpoints, and downloads from a server of our own."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from audio_core.files import InputError
from audio_sep import original, registry
from audio_sep.cli import main
from audio_sep.download import cache, download, is_here
from audio_sep.models import MODELS
from audio_sep.registry import PUBLISHED, find

CONTENT = bytes(range(256)) * 4000
SMALL = replace(PUBLISHED["vocals-mobilenet-subband"], bytes=len(CONTENT))


class Server(HTTPServer):
    """Gives CONTENT, whole or from a byte on; what it does else is set by a test."""

    ranges = True
    breaks_at: int | None = None
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    def handle_error(self, *_):
        """A client that refuses an answer closes the connection."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(re.findall(r"bytes=(\d+)-", asked)[0]) if asked and self.server.ranges else 0
        status = self.server.status if self.server.status != 200 else 206 if start else 200
        self.send_response(416 if start >= len(CONTENT) else status)
        content = CONTENT[start:]
        for name, value in {"Content-Length": str(len(content)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: self.server.breaks_at])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(registry, "RECORDS", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


def part(published=SMALL) -> Path:
    return cache() / f"{published.file}.part"


def test_the_list_names_classes_and_addresses_that_exist():
    assert len(PUBLISHED) == 8 and all(each.kind in MODELS for each in PUBLISHED.values())
    vocals = find("vocals-resunet-subband")
    assert vocals.url.endswith("/5804160/files/resunet143_subbtandtime_vocals_8.7dB_500k_steps_v2.pth?download=1")
    with pytest.raises(InputError, match="did you mean vocals-resunet-subband"):
        find("vocal-resunet-subband")


def test_convert_sees_by_the_names_of_the_files_what_they_hold():
    for each in PUBLISHED.values():
        assert original._source_names(Path(each.file)) == (each.source,)
        if each.kind.endswith("SubbandTime"):
            assert original._named_layout(Path(each.file)) == each.layout


def test_a_file_is_fetched_once(server):
    path = download(SMALL, quiet=True)
    assert path == cache() / SMALL.file and path.read_bytes() == CONTENT and is_here(SMALL)
    assert download(SMALL, quiet=True) == path and server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == [SMALL.file]


def test_a_broken_download_goes_on(server):
    server.breaks_at = 1000
    with pytest.raises(InputError, match=r"at 0 of 1 MB; the same command goes on there"):
        download(SMALL, quiet=True)
    assert part().stat().st_size == 1000 and not is_here(SMALL)
    server.breaks_at = None
    assert download(SMALL, quiet=True).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-"]


def test_a_server_that_begins_anew_is_taken_from_its_beginning(server):
    part().parent.mkdir(parents=True)
    part().write_bytes(b"something else")
    server.ranges = False
    assert download(SMALL, quiet=True).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server):
    part().parent.mkdir(parents=True)
    part().write_bytes(CONTENT + b"more")
    assert download(SMALL, quiet=True).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT) + 4}-", None]


@pytest.mark.parametrize("form", ["etag", "hex", "base64"])
def test_the_checksum_of_the_server_is_compared(server, form):
    def headers(content: bytes) -> dict[str, str]:
        digest = hashlib.md5(content)
        return {
            "etag": {"ETag": f'"md5:{digest.hexdigest()}"'},
            "hex": {"Content-MD5": digest.hexdigest()},
            "base64": {"Content-MD5": base64.b64encode(digest.digest()).decode()},
        }[form]

    server.headers = headers(b"another file")
    with pytest.raises(InputError, match="arrived damaged"):
        download(SMALL, quiet=True)
    assert not part().exists()
    server.headers = headers(CONTENT)
    assert download(SMALL, quiet=True).read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_where_the_size_is_known(server):
    with pytest.raises(InputError, match=r"holds 1,024,000 bytes, and the published file has 4,621,773"):
        download(PUBLISHED[SMALL.name], quiet=True)
    roughly = replace(SMALL, bytes=461_000_000, exact=False)
    assert download(roughly, quiet=True).read_bytes() == CONTENT


def test_an_answer_of_the_server_is_told(server):
    server.status = 404
    with pytest.raises(InputError, match=r"v2\.pth\?download=1: the server answers 404"):
        download(SMALL, quiet=True)


def test_without_a_network_the_way_around_is_told(server):
    server.server_close()
    with pytest.raises(InputError) as error:
        download(SMALL, quiet=True)
    assert "cannot be reached" in str(error.value) and str(error.value).endswith(f"put it here: {cache() / SMALL.file}")


def test_a_full_disk_is_told_before_the_download(server, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="has 0 MB free"):
        download(SMALL, quiet=True)


# --- the commands ------------------------------------------------------------------------------------------


def test_the_command_fetches_and_tells_how_to_go_on(server, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(PUBLISHED, SMALL.name, SMALL)
    assert main(["download", SMALL.name, "-o", str(tmp_path / "here"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'here' / SMALL.file}\n" and not err
    assert main(["download", SMALL.name]) == 0
    out, err = capsys.readouterr()
    assert f"audio-sep convert {cache() / SMALL.file} -o vocals-mobilenet-subband" in err
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[SMALL.name]["path"] == str(cache() / SMALL.file) and rows["vocals-resunet-subband"]["path"] is None
    assert rows["vocals-resunet-subband"]["sdr"] == 8.7 and rows["vocals-resunet-subband"]["bytes"] == 414_046_363


def test_the_list_is_a_table_for_people(server, capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "separates", "SDR,", "dB", "MB", "model", "downloaded"]
    assert "vocals-resunet-subband" in "\n".join(lines) and "5804160" in lines[-1]


def test_a_name_that_is_unknown_is_one_line(capsys):
    assert main(["download", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
