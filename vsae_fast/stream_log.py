"""What a stream has finished, in its work folder: a log with checksums."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from vsae_fast.parquet_parts import digest


class StreamLog:
    """Which parts are done: a line each, with a checksum; the first line says of what run.

    Parameters
    ----------
    work : Path
    fingerprint : dict
    """

    def __init__(self, work: Path, fingerprint: dict[str, Any]) -> None:
        self._work, self._path = work, work / "done.jsonl"
        self.parts: dict[str, dict[str, int]] = {}
        self.skipped: dict[str, str] = {}  # part to what was wrong with it
        self._finished: set[int] = set()
        lines = self._lines()
        if not lines:
            self._append(fingerprint)
            return
        for name in ("format", "source", "model", "options"):
            if lines[0].get(name) != json.loads(json.dumps(fingerprint[name])):
                raise ValueError(
                    f"an unfinished run on this target had another {name}; pass restart=True to begin anew, or call "
                    "it as before to go on"
                )
        for line in lines[1:]:
            if "file" in line:
                self._finished.add(line["file"])
            elif "skipped" in line:
                self.skipped[line["skipped"]] = line["reason"]
            elif "part" in line:
                path = work / line["part"]
                if path.exists() and digest(path) == line["sha256"]:
                    self.parts[line["part"]] = line["filled"]

    def _lines(self) -> list[dict[str, Any]]:
        """Lines that are whole; what a killed process left of another one is cut away."""
        if not self._path.exists():
            return []
        lines, whole = [], 0
        for text in self._path.read_bytes().splitlines(keepends=True):
            try:
                lines.append(json.loads(text))
            except ValueError:
                break  # cut off in the middle of a line
            if not text.endswith(b"\n"):
                lines.pop()
                break
            whole += len(text)
        if whole < self._path.stat().st_size:
            os.truncate(self._path, whole)
        return lines

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def check_model(self, path: Path) -> None:
        """Remember the model's checksum, or raise ValueError where it is not the one that the parts came from."""
        sha256 = digest(path)
        known = [line["network"] for line in self._lines() if "network" in line]
        if known and known[0] != sha256:
            raise ValueError("the model of the unfinished run was altered; pass restart=True to begin anew")
        if not known:
            self._append({"network": sha256})

    def done(self, name: str, sha256: str, filled: dict[str, int]) -> None:
        """Say that a part is in its place."""
        self._append({"part": name, "sha256": sha256, "filled": filled})
        self.parts[name] = filled

    def skip(self, name: str, reason: str) -> None:
        """Say that a part cannot be done."""
        self._append({"skipped": name, "reason": reason})
        self.skipped[name] = reason

    def finish(self, file: int) -> None:
        """Say that a target file is in its place."""
        self._append({"file": file})
        self._finished.add(file)

    def finished(self, file: int) -> bool:
        """Whether a target file is in its place."""
        return file in self._finished

    def filled(self) -> Counter[str]:
        """Cells filled, by column."""
        total: Counter[str] = Counter()
        for counts in self.parts.values():
            total.update(counts)
        return total
