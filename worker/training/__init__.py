"""A plain PyTorch library: data, models, the loop, early stopping, evaluation, checkpoint files.

It knows job specs (`app.specs`) and nothing else of the service: no HTTP, no SQL, no queue.
"""

from worker.training.checkpoint import load_model

__all__ = ["load_model"]
