"""Running steppers: rollouts in memory and to Zarr, generation of datasets, and how well these are resolved.

It imports `config` and what is below; everything from `models` upwards may import it.
It hands out `rollout`, `rollout_to_zarr`, `Persistence` and `generate_to_zarr`.
"""
