"""An audit of the group CNN over D4 of experiments/five_networks.toml, trained for a third of its steps."""

import sys
from pathlib import Path

import style  # noqa: F401 (the figures' settings)

import fluidsurrogate as fs
from fluidsurrogate.rendering.audit_figure import draw_audit

path = Path(__file__).parents[2] / "experiments" / "five_networks.toml"
experiment = fs.Experiment.read(path, ["data.valid=2", "data.test=4", "data.test_steps=20", "train.steps=240"])
data = fs.generate(experiment)
model = fs.train(experiment, data, "gcnn-d4")["gcnn-d4"]
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
draw_audit(fs.audit(model, states=data), folder / "audit.png", "gcnn-d4")
