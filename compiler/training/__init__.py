"""Training a compiled program, and using what it became: data, steps, checkpoints, evaluation, generation."""

from nldsl.compiler.training.checkpoint import Checkpoint
from nldsl.compiler.training.data import Text, text_of
from nldsl.compiler.training.errors import TrainingError
from nldsl.compiler.training.evaluate import Scores, score
from nldsl.compiler.training.generation import generate
from nldsl.compiler.training.loop import Metrics, Options, Training

__all__ = [
    "Checkpoint", "Metrics", "Options", "Scores", "Text", "Training", "TrainingError", "generate", "score", "text_of",
]  # fmt: skip
