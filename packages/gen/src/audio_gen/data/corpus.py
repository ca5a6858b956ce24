"""All that a training takes: the items of each root, of which some are held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_core.data.corpus import divided, listed
from audio_core.data.manifest import find_audio
from audio_core.data.pack import Pack
from audio_core.data.seeds import mix
from audio_core.files import InputError

from ..config.models import LMConfig
from ..recipe.data import Data
from . import InTurn, Model, shards
from .audio import AudioItems, Recording, usable
from .latents import ENDINGS, Encoded, Headers, LatentItems, agree
from .listing import kept
from .metadata import Table
from .places import InFolder, InPack, InShard
from .turns import Turns

_PACKS = (".h5", ".hdf5")


class Corpus:
    """Items of one kind: latents or codes of one codec, or audio. What is left out is named."""

    def __init__(
        self,
        data: Data,
        model: Model,
        folder: Path,
        fingerprint: bytes = b"",
        quiet: bool = False,
    ):
        """`folder` is the training's own, and remembers headers of audio, and shards of the web.

        `fingerprint` is that of the model's codec, if it is loaded; otherwise what the settings say.
        """
        self.data, self.model, self.folder, self.quiet = data, model, folder, quiet
        self.table = Table(data.metadata) if data.metadata else None
        roots = [self._items(root) for root in (data.root, *data.more)]
        items: list[Any] = [item for each in roots for item in each]
        if len({type(item) for item in items}) > 1:
            raise InputError("data: some roots hold audio and others latents; give one kind alone")
        self.kind = "audio" if isinstance(items[0], Recording) else "codes" if items[0].header.is_codes else "latents"
        codebooks = model.lm.codebooks if isinstance(model, LMConfig) else 0
        if self.kind == ("latents" if codebooks else "codes"):
            wanted = "codes" if codebooks else "latents"
            raise InputError(f"{items[0].name}: these are {self.kind}, and the model takes {wanted} or audio")
        if self.kind == "audio":
            if model.hop > 1 and model.codec is None:
                raise InputError(f"{data.root}: holds audio; give model.codec, which makes latents of it")
            self.fingerprint = fingerprint
        else:
            stated = bytes.fromhex(model.codec.fingerprint) if model.codec else b""
            agree(items, model, getattr(model, "width", 0), codebooks, fingerprint or stated)
            self.fingerprint = next((item.header.fingerprint for item in items if item.header.fingerprint), b"")
        parts = [divided(each, data.held_out) for each in roots]
        self.learned, self.held = [learned for learned, _ in parts], [item for _, held in parts for item in held]

    def __len__(self) -> int:
        return sum(map(len, self.learned))

    def training(self, seed: int) -> InTurn:
        """Endless samples of all roots in turn."""
        return InTurn([self._source(items, mix(seed, at)) for at, items in enumerate(self.learned)])

    def tests(self) -> Turns[Any] | None:
        """The beginning of each item that is held out."""
        return self._source(self.held, 0, once=True) if self.held else None

    def _source(self, items: Sequence[Any], seed: int, once: bool = False) -> Turns[Any]:
        data, model = self.data, self.model
        if self.kind == "audio":
            return AudioItems(items, model, self.table, seed, data.random_crop, data.flip, data.quiet_db, once)
        return LatentItems(items, model.frames, getattr(model, "scale", 1.0), self.table, seed, data.random_crop, once)

    # --- looking -----------------------------------------------------------------------------------------------

    def _items(self, root: Path) -> list[Any]:
        if tars := shards.tars(root, self.data.cache or self.folder / "shards", self.quiet):
            return self._of_shards(root, tars)
        if self.data.kind == "latents" and root.suffix in (*_PACKS, ".jsonl"):
            raise InputError(f"{root}: holds audio and no latents")
        if root.suffix in _PACKS:
            return self._of_pack(root)
        if root.suffix == ".jsonl" or self.data.kind == "audio":
            return self._recordings(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give one with latents or audio, a manifest, a pack, or shards")
        paths = next((paths for ending in ENDINGS if (paths := find_audio(root, ending))), [])
        if not self._encoded(root, bool(paths), bool(find_audio(root))):
            return self._recordings(root)
        return self._latents(root, [InFolder(path, root) for path in paths])

    def _encoded(self, root: Path, latents: bool, audio: bool) -> bool:
        """Whether the latents of a root are meant."""
        if self.data.kind == "auto" and latents and audio:
            raise InputError(f"{root}: holds both latents and audio; data.kind says which of them are meant")
        if not latents and (self.data.kind == "latents" or not audio):
            raise InputError(f"{root}: holds no latents{'' if self.data.kind == 'latents' else ' and no audio'}")
        return latents and self.data.kind != "audio"

    def _latents(self, root: Path, places: Sequence[InFolder | InShard], damaged: Sequence[Any] = ()) -> list[Encoded]:
        return kept(root, places, Headers(self.model, self.table), self.data, damaged, self.quiet)

    def _recordings(self, root: Path) -> list[Recording]:
        top = root.parent if root.suffix == ".jsonl" else root
        files = listed(root, self.folder / "headers.jsonl", self.quiet)
        return self._usable(root, [Recording(InFolder(file.path, top), file, file.facts) for file in files])

    def _of_pack(self, root: Path) -> list[Recording]:
        if not root.is_file():
            raise InputError(f"{root}: no such file")
        tracks = Pack(root).items
        places = [InPack(root, track.name.removeprefix(f"{root}:")) for track in tracks]
        recordings = [Recording(place, track, track.facts) for place, track in zip(places, tracks, strict=True)]
        return self._usable(root, recordings)

    def _usable(self, root: Path, recordings: list[Recording], damaged: Sequence[Any] = ()) -> list[Recording]:
        return kept(root, recordings, usable(self.model.channels, self.table), self.data, damaged, self.quiet)

    def _of_shards(self, root: Path, tars: list[Path]) -> list[Any]:
        samples, damaged = shards.samples(tars)
        places = [
            InShard.of(sample, ending, root)
            for sample in samples
            if (ending := next((each for each in ENDINGS if each[1:] in sample.members), ""))
        ]
        sounds = [sample for sample in samples if sample.sound]
        if not samples and damaged:
            raise InputError(f"{damaged[0].name}: {damaged[0].cause}; nothing in {root} can be read")
        if self._encoded(root, bool(places), bool(sounds)):
            return self._latents(root, places, damaged)
        return self._usable(
            root, [Recording(InShard.of(each, f".{each.sound}", root), each, {}) for each in sounds], damaged
        )
