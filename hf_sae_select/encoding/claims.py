"""Tasks that several processes share: files in a folder that all of them see say who works on what.

A claim is a file that only one process can create (`O_EXCL`). The process touches it as long as it works on the task.
A process that sees a claim untouched for a while takes the task over, so one that was killed holds nobody up. Locks
(`flock`) would end with their process at once, but many network folders have none, or only within one machine. If two
processes have the same claim after all, both do the task, and get the same result.

Nobody waits for a message of another process, which may be dead, so no wait has a time limit.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

Result = TypeVar("Result")

TOUCH_SECONDS, DEAD_SECONDS = 5.0, 60.0  # a network folder may show a touch late
POLL_SECONDS = 1.0
CLAIM, DONE, LEFT = ".claim", ".done", ".left"
OLD_SECONDS = 24 * 3600  # folders of jobs whose processes were killed


class Claims:
    """The tasks of one job, which all processes name alike.

    Args:
        folder (`Path`, *optional*):
            Folder of the job. Without, this process is alone, and there are no files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._own: set[str] = set()
        self._done: set[str] = set()
        # Of the claims of others: when they were touched, and when this process saw it first, by its own clock.
        self._touched: dict[str, tuple[int, float]] = {}

    def done(self) -> set[str]:
        """Return the names of the tasks that are done."""
        if self.folder is not None:
            self._done |= {file.stem for file in self.folder.glob(f"*{DONE}")}
        return self._done

    def free(self, tasks: Iterable[str]) -> Iterator[str]:
        """Claim one task after another, and yield it; leave out those that others have."""
        for task in tasks:
            if task not in self._done and task not in self._own and self._claim(task):
                yield task

    def finish(self, task: str) -> None:
        """Say that a task of this process is done."""
        self._own.discard(task)
        self._done.add(task)
        if self.folder is not None:
            (self.folder / f"{task}{DONE}").touch()
            (self.folder / f"{task}{CLAIM}").unlink(missing_ok=True)

    def first(self, task: str, work: Callable[[], Result]) -> Result:
        """Return what `work` returns. One process does it before the others, which then find what it has written."""
        while task not in self.done():
            for _ in self.free([task]):
                result = work()
                self.finish(task)
                return result
            time.sleep(POLL_SECONDS)
        return work()

    def _claim(self, task: str) -> bool:
        """Try to claim a task, also where its process is dead."""
        if self.folder is not None:
            file = self.folder / f"{task}{CLAIM}"
            if self._is_dead(file):
                file.unlink(missing_ok=True)
            try:
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                return False
            if file.with_suffix(DONE).exists():  # a claim goes after its task is done
                file.unlink(missing_ok=True)
                self._done.add(task)
                return False
        self._own.add(task)
        return True

    def _is_dead(self, file: Path) -> bool:
        """Tell whether nobody touched a claim while this process watched it for a while."""
        try:
            with file.open("rb") as handle:  # a network folder shows the time of a file anew when it is opened
                touched = os.fstat(handle.fileno()).st_mtime_ns
        except OSError:  # it is gone, or not ours to read
            self._touched.pop(file.name, None)
            return False
        now = time.monotonic()
        if self._touched.get(file.name, (None,))[0] != touched:
            self._touched[file.name] = touched, now
        return now - self._touched[file.name][1] > DEAD_SECONDS

    def touch(self) -> None:
        """Show that this process still works on its tasks."""
        if self.folder is not None:
            for task in list(self._own):
                with suppress(OSError):  # another process took it over, or the folder is out of reach for a moment
                    os.utime(self.folder / f"{task}{CLAIM}")

    def release(self) -> None:
        """Let others have the unfinished tasks of this process."""
        if self.folder is not None:
            for task in self._own:
                (self.folder / f"{task}{CLAIM}").unlink(missing_ok=True)
        self._own.clear()

    def leave(self, process: int, processes: int) -> None:
        """Say that a process needs the folder no more. The last one removes it."""
        if self.folder is not None:
            (self.folder / f"{process}{LEFT}").touch()
            if len(list(self.folder.glob(f"*{LEFT}"))) == processes:
                shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def working(claims: Claims) -> Iterator[None]:
    """Touch the claims of this process in a thread, and release them in the end."""
    if claims.folder is None:
        yield
        return
    ended = Event()

    def touch() -> None:
        while not ended.wait(TOUCH_SECONDS):
            claims.touch()

    thread = Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        claims.release()


def remove_old(folder: Path) -> None:
    """Remove the folders of jobs that nobody has worked on for a day."""
    for job in folder.glob("*"):
        with suppress(OSError):  # another process removes it too
            if time.time() - job.stat().st_mtime > OLD_SECONDS:
                shutil.rmtree(job, ignore_errors=True)
