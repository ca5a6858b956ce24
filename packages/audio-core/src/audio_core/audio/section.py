"""A file inside another, such as a member of a tar: read where it lies, nothing is unpacked."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class _Status(NamedTuple):
    st_size: int


@dataclass(frozen=True)
class Section:
    """`size` bytes of the file `path` from `offset` on; `name` is that of the file inside.

    It stands for a Path wherever audio is read. `open` is the one place that opens `path`.
    """

    path: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def stat(self) -> _Status:
        return _Status(self.size)

    def open(self, mode: str = "rb") -> io.BufferedReader:
        return io.BufferedReader(_Window(io.FileIO(self.path, mode), self.offset, self.size))

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()


class _Window(io.RawIOBase):
    def __init__(self, file: io.FileIO, offset: int, size: int):
        self.file, self.offset, self.size, self.at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self.size - self.at)]
        self.file.seek(self.offset + self.at)
        count = self.file.readinto(view) or 0
        self.at += count
        return count

    def close(self) -> None:
        self.file.close()
        super().close()
