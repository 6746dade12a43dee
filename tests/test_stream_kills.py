import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "soak" / "stream_kills.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_a_selection_from_a_stream_that_is_killed_damaged_or_without_room_comes_to_the_same_receipt():
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "--kills", "4", "--damages", "4", "--full", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == [
        "killed: 4 tried, 4 survived",
        "damaged: 4 tried, 4 survived",
        "on a full disk: 2 tried, 2 survived",
    ], done.stdout + done.stderr
