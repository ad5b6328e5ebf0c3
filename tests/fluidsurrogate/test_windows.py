"""Batches: the same from memory, from disk and from processes that read ahead; nothing waits for them."""

from pathlib import Path

import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.training.curriculum import Curriculum
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories, StoredTrajectories, WindowBatches

MINIATURE = Path(__file__).parents[1] / "miniature.toml"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A flow with a forcing as input, on disk: not to be changed."""
    experiment = Experiment.read(MINIATURE, ["flow.kind=kolmogorov", "flow.spin_up=0", "data.train=20"])
    return experiment, fs.generate(experiment, tmp_path_factory.mktemp("stored") / "run")


def both(experiment, dataset, rank=0, world_size=1):
    sources = [
        source.from_dataset(dataset, "train", experiment) for source in (InMemoryTrajectories, StoredTrajectories)
    ]
    curriculum = Curriculum(experiment.train, 0)
    return [WindowBatches(source, curriculum, 0, experiment.train.batch, rank, world_size) for source in sources]


def same(a, b):
    return torch.equal(a[0], b[0]) and a[1].keys() == b[1].keys() and all(torch.equal(a[1][k], b[1][k]) for k in a[1])


def test_from_disk_as_from_memory(stored):
    memory, disk = both(*stored)
    assert memory[0][1]["forcing"].shape == (4, 1, 16, 16)
    assert all(same(memory[step], disk[step]) for step in range(6))
    assert not same(memory[0], memory[1])


def test_scaling_from_disk_as_from_memory(stored):
    experiment, _ = stored
    memory, disk = (Normalisation.fit(experiment.spec, batches.data.chunks) for batches in both(*stored))
    assert memory.band == disk.band
    assert disk.scale == pytest.approx(memory.scale, rel=1e-12)
    assert disk.change == pytest.approx(memory.change, rel=1e-12)


def test_processes_that_read_ahead_give_the_same_batches_in_order(stored):
    memory, disk = both(*stored)
    ahead = disk.from_step(3, 8, loaders=2)
    assert all(same(memory[step], batch) for step, batch in zip(range(3, 8), ahead, strict=True))


def test_what_is_wrong_with_the_data_is_one_line_through_a_process_too(stored):
    experiment, dataset = stored
    broken = dataset.copy().load().copy(deep=True)
    broken["vorticity"][3, 2] = float("nan")
    disk = WindowBatches(
        StoredTrajectories.from_dataset(broken, "train", experiment), Curriculum(experiment.train, 0), 0, 40
    )
    with pytest.raises(UsageError, match=r"^variable 'vorticity' holds NaN") as refusal:
        list(disk.from_step(0, 8, loaders=1))
    assert "\n" not in str(refusal.value)


def test_parts_are_the_whole(stored):
    whole = both(*stored)[0][2][0]
    parts = [both(*stored, rank=i, world_size=2)[0][2][0] for i in range(2)]
    assert torch.equal(torch.cat(parts), whole)


def test_training_from_disk_ends_with_the_same_weights(stored):
    experiment, dataset = stored
    weights = {}
    for loaders in (0, 2):
        options = experiment.train.model_copy(update={"loaders": loaders})
        chosen = experiment.model_copy(update={"train": options})
        weights[loaders] = fs.train(chosen, dataset, ["small-cnn"])["small-cnn"].network.state_dict()
    assert all(torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def test_a_split_that_does_not_fit_in_memory(stored, monkeypatch):
    experiment, dataset = stored
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    with pytest.raises(UsageError, match=r"needs 0.0 GB of memory, and 0.0 GB are free: set train.loaders = 2"):
        InMemoryTrajectories.from_dataset(dataset, "train", experiment)
    with pytest.raises(UsageError, match=r"are free: validation data are held in memory: take fewer"):
        InMemoryTrajectories.from_dataset(dataset, "valid", experiment)
    prepare_training(
        experiment,
        "small-cnn",
        StoredTrajectories.from_dataset(dataset, "train", experiment),
        _valid(stored, monkeypatch),
        {},
    )


def _valid(stored, monkeypatch):
    monkeypatch.undo()
    return InMemoryTrajectories.from_dataset(stored[1], "valid", stored[0])


def test_data_move_to_a_device_whose_memory_has_room(stored, monkeypatch):
    experiment, data = stored
    held = InMemoryTrajectories.from_dataset(data, "train", experiment)
    device, size = torch.device("meta"), held.states.nbytes + sum(value.nbytes for value in held.inputs.values())
    for free, expected in ((4 * size, "meta"), (4 * size - 4, "cpu")):
        monkeypatch.setattr("fluidsurrogate.training.windows.free_memory", lambda device, free=free: free)
        assert held.to_device(device).states.device.type == expected
