"""Training networks: batches of windows, the curriculum, validation, checkpoints and fine-tuning.

It imports `models` and what is below; `pipeline` and everything above may import it.
It hands out `train_model`, which a kill at any moment does not change by a bit.
"""
