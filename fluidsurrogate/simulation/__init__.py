"""Running steppers: rollouts in memory and to Zarr, generation of datasets, and a measure of their resolution.

`rollout` and `rollout_to_zarr` run any stepper, `generate_in_memory` and `generate_to_zarr` the classical solver. The
package imports `config` and the packages below it; packages from `models` upwards import it.
"""
