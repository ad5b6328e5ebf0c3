"""Inspection of what is on disk: what a file or folder is, whether it can be reproduced, and model cards.

It imports every other package; only `api` and `cli` may import it.
It hands out `info`, `model_card` and `push_to_hub`.
"""
