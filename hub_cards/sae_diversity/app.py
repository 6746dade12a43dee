"""The Space's page: the measurement on a few texts typed in."""

from pathlib import Path

import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load(str(Path(__file__).with_name("sae_diversity.py"))))
