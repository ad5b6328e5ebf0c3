"""Looking at what is on disk: what a file or folder is, how it can be made again, and cards that say so.

It imports every other package; only `api` and `cli` may import it.
It hands out `info`, `model_card` and `push_to_hub`.
"""
