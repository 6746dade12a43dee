import os
import time

import pytest

from hf_sae_select.encoding import claims
from hf_sae_select.encoding.claims import Claims, remove_old, working

TASKS = ["0", "1", "2"]


@pytest.fixture
def quick(monkeypatch):
    """A claim counts as dead at once when it is looked at a second time."""
    monkeypatch.setattr(claims, "DEAD_SECONDS", -1)
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.001)


def test_alone_all_tasks_are_free_once():
    alone = Claims()
    assert list(alone.free(TASKS)) == TASKS
    assert list(alone.free(TASKS)) == [] and alone.done() == set()
    alone.finish("1")
    assert alone.done() == {"1"} and list(alone.free(TASKS)) == []
    assert alone.first("plan", lambda: 7) == 7


def test_two_processes_share_the_tasks(tmp_path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    first = next(one.free(TASKS))
    assert first == "0" and list(other.free(TASKS)) == ["1", "2"]
    assert list(one.free(TASKS)) == []
    one.finish("0")
    other.finish("1")
    assert one.done() == other.done() == {"0", "1"}
    assert list(Claims(tmp_path).free(TASKS)) == []  # the last one is not done yet
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.done", "1.done", "2.claim"]


def test_the_tasks_of_a_dead_process_are_taken_over(tmp_path, monkeypatch):
    dead, living, heir = Claims(tmp_path), Claims(tmp_path), Claims(tmp_path)
    next(dead.free(["0"]))
    next(living.free(["1"]))
    assert list(heir.free(TASKS)) == ["2"]  # it begins to watch the two others
    monkeypatch.setattr(claims, "DEAD_SECONDS", 0.05)
    os.utime(tmp_path / "0.claim", (1, 1))  # whatever the clocks of machines say
    assert list(heir.free(TASKS)) == []
    for _ in range(10):
        time.sleep(0.01)
        living.touch()
    assert list(heir.free(TASKS)) == ["0"]


def test_a_task_that_two_processes_do_is_done(tmp_path, quick):
    late, heir = Claims(tmp_path), Claims(tmp_path)
    assert list(late.free(["0"])) == list(heir.free(["0"])) == ["0"]
    heir.finish("0")
    late.finish("0")
    assert late.done() == {"0"} and [file.name for file in tmp_path.iterdir()] == ["0.done"]


def test_a_claim_touched_by_a_thread_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "TOUCH_SECONDS", 0.001)
    owner = Claims(tmp_path)
    with working(owner):
        next(owner.free(["0"]))
        os.utime(tmp_path / "0.claim", (1, 1))
        deadline = time.monotonic() + 10
        while (tmp_path / "0.claim").stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert (tmp_path / "0.claim").stat().st_mtime > 2
    assert list(Claims(tmp_path).free(["0"])) == ["0"]  # released: it was not done


def test_one_process_works_first_and_the_others_find_its_result(tmp_path, quick, monkeypatch):
    file = tmp_path / "result"

    def work():
        if file.exists():
            return f"read {file.read_text()}"
        file.write_text("it")
        return "wrote it"

    assert Claims(tmp_path).first("plan", work) == "wrote it"
    assert Claims(tmp_path).first("plan", work) == "read it"


def test_who_waits_for_a_dead_process_does_its_work(tmp_path, quick):
    next(Claims(tmp_path).free(["plan"]))
    assert Claims(tmp_path).first("plan", lambda: 7) == 7


def test_the_last_process_to_leave_removes_the_folder(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    Claims(folder).leave(0, 2)
    assert folder.is_dir()
    Claims(folder).leave(1, 2)
    assert not folder.exists()


def test_folders_of_dead_jobs_are_removed_after_a_day(tmp_path):
    for name, age in {"new": 3600, "old": 25 * 3600}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.claim").touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_old(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["new"]
