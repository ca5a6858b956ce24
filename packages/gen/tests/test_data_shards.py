"""Shards: the samples of a folder from tars, from a disk or from the web."""

import functools
import http.server
import io
import json
import shutil
import sys
import tarfile
import threading
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from audio_core.testing import refused
from audio_gen.data import shards
from audio_gen.data.corpus import Corpus
from audio_gen.recipe.data import Data

from .data_toys import OTHER, Toy, packed, ramp, same, save, save_npy, tone


def corpus(root, run=None, **settings):
    return Corpus(Data(root=root, **{"held_out": 0, **settings}), Toy(), run or root.parent / "run")


def filled(root, kind):
    for at in range(6):
        facts = {"prompt": [f"{at}", f"number {at}"], "seconds_start": at}
        if kind == "npy":
            save_npy(root / f"below/{at}.npy", ramp(4, 10 + 3 * at, at), [1] * (9 + at) + [0], **facts)
        elif kind == "safetensors":
            save(root / f"below/{at}.safetensors", ramp(4, 10 + 3 * at, at), **facts)
        else:
            tone(root / f"below/{at}.{kind}", 0.5 + at, 1000 + 500 * (at % 2), level=0.3)
            (root / f"below/{at}.json").write_text(json.dumps({"text": f"number {at}"}))
    (root / "below/3.json").write_text('{"__reject__": true}')
    (root / "below/4.txt").write_text("from a text")
    return root


@pytest.mark.parametrize("kind", ["npy", "safetensors", "wav"])
def test_shards_give_the_samples_of_the_folder(tmp_path, kind):
    folder = corpus(filled(tmp_path / "in", kind), held_out=4)
    tars = corpus(packed(tmp_path / "in", tmp_path / "tars"), held_out=4)
    assert (len(folder), folder.kind, folder.fingerprint) == (len(tars), tars.kind, tars.fingerprint)
    one, two = folder.training(7), tars.training(7)
    for index in range(len(folder) * 3):
        assert same(one[index], two[index])
    one, two = folder.tests(), tars.tests()
    assert len(one) == len(two) == 2
    assert same(one[0], two[0]) and same(one[1], two[1])
    assert tars.training(7).name(0).startswith(f"{tmp_path / 'tars'}/shard-00")


def test_tars_of_a_pattern(tmp_path):
    root = packed(filled(tmp_path / "in", "npy"), tmp_path / "tars", pieces=3)
    for pattern, count in {"shard-{000..002}.tar": 5, "shard-{000,002}.tar": 4, "shard-001.tar": 1}.items():
        assert len(corpus(root / pattern)) == count
    assert f"{root / 'shard-003.tar'}: no such file" in refused(corpus, root / "shard-{002..003}.tar")


def test_patterns():
    assert shards.expanded("a-{08..11}-{x,yy}.tar") == [
        f"a-{number}-{word}.tar" for number in ("08", "09", "10", "11") for word in ("x", "yy")
    ]
    assert shards.expanded("{9..11}") == ["9", "10", "11"]
    assert shards.expanded("plain.tar") == ["plain.tar"]
    assert "counts downwards" in refused(shards.expanded, "{3..1}.tar")


def test_damage_inside_and_of_whole_tars_is_named(tmp_path, capsys):
    root = packed(filled(tmp_path / "in", "npy"), tmp_path / "tars", pieces=3)
    whole = (root / "shard-000.tar").read_bytes()
    (root / "shard-000.tar").write_bytes(whole[: len(whole) // 2])
    with tarfile.open(root / "shard-001.tar", "a") as tar:
        for name, content in {"bad.npy": b"\x93NUMPY", "lone.json": b"{}", "word.npy": b"", "word.json": b"["}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert len(corpus(root)) == 3
    told = capsys.readouterr().err
    assert f"left out: {root / 'shard-000.tar'}: is truncated inside" in told
    assert f"left out: {root / 'shard-001.tar'}:bad.npy: is cut short" in told
    assert f"left out: {root / 'shard-001.tar'}:word" in told
    for name in ("shard-001.tar", "shard-002.tar"):
        (root / name).write_bytes(b"no tar")
    assert "shard-000.tar: is truncated inside" in refused(corpus, root)


def test_a_tar_of_another_codec_is_refused(tmp_path):
    save(tmp_path / "in/a.safetensors", ramp(4, 9))
    save(tmp_path / "in/b.safetensors", ramp(4, 9), mark=OTHER)
    root = packed(tmp_path / "in", tmp_path / "tars")
    assert f"{root / 'shard-000.tar'}:b.safetensors: was encoded by codec" in refused(corpus, root)


def test_keys_may_come_again_in_another_tar(tmp_path):
    for at in range(2):
        save(tmp_path / f"{at}/same.safetensors", ramp(4, 8, at))
        packed(tmp_path / str(at), tmp_path / "tars", 1)
        (tmp_path / "tars/shard-000.tar").rename(tmp_path / f"tars/{at}.tar")
    source = corpus(tmp_path / "tars").training(0)
    assert {float(source[index].values[0, 0]) for index in range(2)} == {0, 1}


def test_details_beside_the_tars(tmp_path):
    save_npy(tmp_path / "in/a.npy", ramp(4, 9))
    root = packed(tmp_path / "in", tmp_path / "tars", 1)
    (root / "details.json").write_text(json.dumps({"sample_rate": 8000}))
    assert "rate of 8000, and the model has 1000" in refused(corpus, root)


# --- the web -----------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path):
    """A folder that a server gives, its address, and the requests so far."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if "short" in self.path:
                self.send_response(200)
                self.send_header("Content-Length", "9999")
                self.end_headers()
                self.wfile.write(b"cut")
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    (tmp_path / "web").mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "web"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path / "web", f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_shards_of_the_web_are_fetched_once(tmp_path, web):
    folder, address, requests = web
    local = corpus(filled(tmp_path / "in", "npy")).training(0)
    packed(tmp_path / "in", folder)
    root = Path(f"{address}/shard-{{000..001}}.tar?version=1")  # which has one slash after the colon
    data = Data(root=root, held_out=0, cache=tmp_path / "cache")
    for _ in range(2):
        source = Corpus(data, Toy(), tmp_path / "run").training(0)
        assert all(same(local[index], source[index]) for index in range(5))
    assert requests == [f"/shard-00{number}.tar?version=1" for number in range(2)]
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 2
    shutil.rmtree(tmp_path / "cache")
    corpus(Path(f"{address}/shard-000.tar"), run=tmp_path / "run")
    assert len(list((tmp_path / "run/shards").glob("*.tar"))) == 1


@pytest.mark.parametrize(
    ("name", "message"), [("short.tar", "is cut short: 9999 bytes promised, 3"), ("none.tar", "cannot be fetched")]
)
def test_what_cannot_be_fetched_whole_leaves_nothing(tmp_path, web, name, message):
    assert message in refused(corpus, Path(f"{web[1]}/{name}"), run=tmp_path / "run")
    assert not list((tmp_path / "run/shards").glob("*.tar"))


@pytest.mark.parametrize("address", ["ftp://host/a.tar", "pipe:aws s3 cp s3://b/a.tar -"])
def test_other_addresses_are_refused(tmp_path, address):
    assert "copy them to one of these" in refused(corpus, Path(address), run=tmp_path)


def test_shards_of_an_object_store_are_fetched_once(tmp_path, monkeypatch):
    """A store in memory takes the place of S3, whose library is another."""
    from fsspec.implementations.memory import MemoryFileSystem

    class Store(MemoryFileSystem):
        protocol, store = "s3", {}

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.replace("s3://", "memory://"))

    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", Store)
    local = corpus(filled(tmp_path / "in", "npy")).training(0)
    packed(tmp_path / "in", tmp_path / "out")
    memory = Store()
    for number in range(2):
        memory.pipe(f"/bucket/shard-00{number}.tar", (tmp_path / f"out/shard-00{number}.tar").read_bytes())
    data = Data(root=Path("s3://bucket/shard-{000..001}.tar"), held_out=0, cache=tmp_path / "cache")
    for _ in range(2):  # the second time from the cache: the bucket is empty then
        source = Corpus(data, Toy(), tmp_path / "run").training(0)
        assert all(same(local[index], source[index]) for index in range(5))
        memory.store.clear()
    assert "cannot be fetched" in refused(corpus, Path("s3://bucket/none.tar"), run=tmp_path / "run")
    assert not list((tmp_path / "run/shards").glob("*.tar"))


def test_the_library_of_a_store_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert "needs gcsfs, which is not installed" in refused(corpus, Path("gs://bucket/a.tar"), run=tmp_path)


def test_shards_of_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(owner, file, repo_type, revision):
        asked.append((owner, file, repo_type, revision))
        return str(tmp_path / "tars" / file.rpartition("/")[2])

    save_npy(tmp_path / "in/a.npy", np.zeros((4, 9), np.float32))
    packed(tmp_path / "in", tmp_path / "tars", 1)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for address in ("hf://datasets/me/sounds@v1/train/shard-000.tar", "hf://me/sounds/shard-000.tar"):
        assert len(corpus(Path(address), run=tmp_path)) == 1
    assert asked == [
        ("me/sounds", "train/shard-000.tar", "dataset", "v1"),
        ("me/sounds", "shard-000.tar", "model", None),
    ]
    assert "expected hf://datasets/OWNER" in refused(corpus, Path("hf://shard-000.tar"), run=tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: 1 / 0)
    assert "cannot be fetched from the Hub" in refused(corpus, Path("hf://me/a/b.tar"), run=tmp_path)
