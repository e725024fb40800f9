"""Long processes that tests wait for, begun before the first test: the tests themselves keep little more than one
processor busy. One at a time, in the order of their tests, and none of tests that were not selected.

A test names its process by ``@pytest.mark.early(command, environment)`` and takes the fixture ``early``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = "{folder}"  # stands in a command for an empty folder of the process's own


class Ended(NamedTuple):
    """How a process ended, what it printed, and the folder that it could write to."""

    returncode: int
    output: str
    folder: Path


class EarlyProcesses:
    """The processes of the selected tests."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._worker = ThreadPoolExecutor(1)
        self._running: subprocess.Popen[str] | None = None
        self._ended: dict[tuple[str, ...], Future[Ended]] = {}
        for item in items:
            for marker in item.iter_markers("early"):
                command, environment = marker.args
                if tuple(command) not in self._ended:
                    self._ended[tuple(command)] = self._worker.submit(self._run, command, environment)

    def _run(self, command: list[str], environment: dict[str, str]) -> Ended:
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        self._running = subprocess.Popen(
            [word.replace(FOLDER, str(folder)) for word in command],
            cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        output, _ = self._running.communicate()
        return Ended(self._running.returncode, output, folder)

    def wait(self, item: pytest.Item) -> Ended:
        """How the process of a test ended."""
        marker = item.get_closest_marker("early")
        assert marker is not None, f"{item.name} takes the fixture early, but names no process by @pytest.mark.early"
        return self._ended[tuple(marker.args[0])].result()

    def stop(self) -> None:
        """End what nobody will wait for any more."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self._running is not None and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGKILL)  # with its compilers, which would keep its output open
        self._worker.shutdown()
        self._folder.cleanup()
