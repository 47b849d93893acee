"""The writer of a run directory: records are appended, other files are written whole, and only by who owns the run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from bench.store.files import BLOCK, Written, rename, replace_bytes, sync, write_atomic
from bench.store.lease import Lease, acquire
from bench.store.run_folder import RECORDS, SEALED, VERDICTS, CorruptRun, content_size, file_digest, seal_of

PREPARED = re.compile(r"part-.*?(\d*)|.*?\.?(\d*)\.part")  # files and folders before they get their names, with a token


class RunStore:
    """Writer of one run directory.  It keeps the digests of the records, so that it sees what others do to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lease: Lease | None = None
        path.mkdir(parents=True, exist_ok=True)
        self._written: dict[str, Written] = {}
        self._files: dict[str, FileIO] = {}

    @contextmanager
    def own(self, lost: tuple[int, int] | None = None) -> Iterator[None]:
        """Own the directory: Held if another one does, LeaseLost as soon as another one has taken it over.

        ``lost`` as for ``lease.acquire``.
        """
        lease = self.lease = acquire(self.path, lost)
        try:
            self._drop_parts(lambda number: number < lease.token)
            with lease.beating():
                yield
        except Exception:
            lease.check()  # what goes wrong after a loss goes wrong because of it
            raise
        finally:
            self._close()
            if lease.holds():
                lease.release()
            elif lease.is_there():
                self._drop_parts(lambda number: number == lease.token)

    def _drop_parts(self, whose: Callable[[int], bool]) -> None:
        """Remove what the owners of some numbers have prepared under other names: a late rename finds nothing then."""
        assert self.lease is not None
        for number, path in enumerate(sorted(self.path.iterdir())):
            found = PREPARED.fullmatch(path.name)
            if found is None or not whose(int(found[1] or found[2] or 0)):
                continue
            with suppress(FileNotFoundError):  # renamed by its owner meanwhile, before anything here was read
                if path.is_dir():
                    gone = self.path / f"part-gone-{number}-{self.lease.token}"
                    path.rename(gone)  # at once and as a whole, which its removal is not
                    shutil.rmtree(gone, ignore_errors=True)
                else:
                    path.unlink()

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file whole."""
        write_atomic(self.path / name, value, self.lease)

    def replace(self, name: str, content: bytes) -> None:
        """Write a file whole."""
        replace_bytes(self.path / name, content, self.lease)

    def part(self, name: str) -> Path:
        """Where a folder is prepared that ``publish`` gives its name."""
        part = self.path / f"part-{name}-{self.lease.token if self.lease else 0}"
        shutil.rmtree(part, ignore_errors=True)
        return part

    def publish(self, name: str) -> None:
        """Give the files of a prepared folder, and of no other, their place in the folder of this name."""
        part, folder = self.path / f"part-{name}-{self.lease.token if self.lease else 0}", self.path / name
        for file in sorted(file for file in part.rglob("*") if file.is_file()):
            target = folder / file.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            rename(file, target, self.lease)
            sync(target.parent)
        shutil.rmtree(part)

    def written(self, name: str) -> Written:
        """What a record file should hold: as it was found, and what was appended since."""
        if name not in self._written:
            self._written[name] = Written.of(self.path / name)
        return self._written[name]

    def append(self, name: str, records: list[dict[str, Any]]) -> None:
        """Append records to a JSONL file in one write."""
        content = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records).encode()
        written, file = self.written(name), self._open(name)
        if self.lease is not None:
            self.lease.check()
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        written.add(content)

    def _open(self, name: str) -> FileIO:
        """A record file to append to, opened once.

        It is found valid after it was opened, and who takes over replaces the file: what a former owner appends late
        goes into a file that has no name any more.
        """
        if name not in self._files:
            self._files[name] = FileIO(self.path / name, "ab")
        return self._files[name]

    def marks(self) -> dict[str, dict[str, Any]]:
        """Size and SHA-256 of each record file, which are brought to the disk: what a checkpoint remembers."""
        for name in RECORDS:
            if (self.path / name).exists():
                sync(self.path / name)
        return {name: self.written(name).mark() for name in RECORDS}

    def check(self, marks: Mapping[str, Mapping[str, Any]]) -> None:
        """CorruptRun unless every record file begins with what a checkpoint remembers of it."""
        for name, mark in marks.items():
            found = Written.of(self.path / name, mark["size"])
            if found.size < mark["size"]:
                raise CorruptRun(f"{name} has {found.size} bytes, {mark['size']} when the checkpoint was made")
            if found.mark() != mark:
                raise CorruptRun(f"{name} was changed after the checkpoint was made")

    def truncate(self, marks: Mapping[str, Mapping[str, Any]]) -> None:
        """Drop the records written after a checkpoint, all without marks; the resumed run writes them again.

        CorruptRun as ``check`` raises it: nothing is changed then.
        """
        self.check(marks)
        self._close()
        for name in RECORDS:
            if (self.path / name).exists():
                self._cut(name, marks[name]["size"] if name in marks else 0)
            self._written[name] = Written.of(self.path / name)

    def _cut(self, name: str, size: int) -> None:
        """Put a copy of a file's first bytes in its place: a former owner's handles are of the old file."""
        part = self.path / f"{name}.{self.lease.token if self.lease else 0}.part"
        with (self.path / name).open("rb") as old, part.open("wb") as new:
            while content := old.read(min(BLOCK, size - new.tell())):
                new.write(content)
            new.flush()
            os.fsync(new.fileno())
        rename(part, self.path / name, self.lease)

    def finish(self, ledger: Mapping[str, Any], selection: Mapping[str, Any] | None = None) -> None:
        """Write the done marker: from now on the run is only read.  ``selection``: the run's best validation.

        CorruptRun if the records are not those that were written: another program has changed them meanwhile.
        """
        for name, mark in self.marks().items():
            if Written.of(self.path / name).mark() != mark:
                raise CorruptRun(f"{name} was changed by another program while the run was going on")
        names = [n for n in SEALED if n not in (VERDICTS, "env.json") or (self.path / n).exists()]
        sizes = {n: content_size(self.path / n) for n in names}
        done = {"ledger": dict(ledger), "digests": {n: file_digest(self.path / n) for n in names}, "sizes": sizes}
        done |= {"selection": dict(selection)} if selection else {}
        self.write("done.json", {**done, "seal": seal_of(done)})
        sync(self.path)
