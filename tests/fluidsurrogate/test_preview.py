"""The first picture of a run, drawn while networks train."""

import math
from pathlib import Path

import fluidsurrogate as fs
from fluidsurrogate import Experiment
from fluidsurrogate.core.files import read_json
from fluidsurrogate.pipeline.preview import Preview
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories

PNG = b"\x89PNG\r\n\x1a\n"


def trainers(toml):
    experiment = Experiment.read(toml)
    data = fs.generate(experiment)
    train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
    return [prepare_training(experiment, name, train, valid, {}) for name in experiment.models]


def test_the_best_network_so_far(toml, tmp_path, picture_layout):
    """A network with a larger error leaves the picture alone; with a smaller one it takes it over."""
    first, second = trainers(toml)
    for trainer, error, owner in ((first, 0.5, "small-d4"), (second, 0.6, "small-d4"), (second, 0.4, "small-cnn")):
        Preview(tmp_path)(trainer.surrogate, trainer.valid, 4, error)
        assert read_json(tmp_path / ".preview.json")["name"] == owner
        assert (tmp_path / "preview.png").read_bytes().startswith(PNG)


def test_not_more_than_one_in_twenty_seconds(toml, tmp_path):
    trainer, preview = trainers(toml)[0], Preview(tmp_path)
    preview(trainer.surrogate, trainer.valid, 4, 0.5)
    (tmp_path / "preview.png").unlink()
    preview(trainer.surrogate, trainer.valid, 8, 0.1)
    assert not (tmp_path / "preview.png").exists()


def test_a_picture_that_cannot_be_drawn_stops_nothing(toml, tmp_path):
    trainer = trainers(toml)[0]
    Preview(Path("/proc/nowhere"))(trainer.surrogate, trainer.valid, 4, 0.5)
    Preview(tmp_path)(trainer.surrogate, trainer.valid, 4, math.nan)
    assert not (tmp_path / "preview.png").exists()


def test_training_calls_it_with_better_weights_only(toml):
    trainer, seen = trainers(toml)[0], []
    trainer.on_better_weights = lambda surrogate, valid, step, error: seen.append((step, error))
    trainer.run()
    scores = [row["valid_nrmse"] for row in trainer.history]
    best = [min(scores[: i + 1]) for i in range(len(scores))]
    expected = [row["step"] for i, row in enumerate(trainer.history) if i == 0 or scores[i] < best[i - 1]]
    assert [step for step, _ in seen] == expected
