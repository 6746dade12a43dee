import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "soak" / "engine_faults.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_what_disturbs_an_encoding_leaves_the_same_bytes_in_the_end():
    kinds = ["processes", "runs", "disk", "file", "shards"]
    command = [sys.executable, str(SCRIPT), "--points", "1", "--kinds", *kinds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert lines == [f"{kind}: tried 1, survived 1" for kind in kinds], done.stdout + done.stderr
