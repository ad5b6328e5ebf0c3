"""Training of networks: batches of windows, the curriculum, validation, checkpoints and fine-tuning.

It imports `models` and the packages below it; `pipeline` and all packages above may import it.
The main entry point is `train_model`; if it is killed at any moment and called again, the result has the same bits.
"""
