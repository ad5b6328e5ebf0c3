"""What a model has learned: filters, feature maps, reach, response to vortices, errors by scale, the group axis.

One module a measurement. It imports `rendering` and what is below; `pipeline` and everything above may import it.
It hands out `explain`, which returns the measurements as a Dataset and draws them.
"""
