"""What a training step asks: the curriculum, push-forward, noise, intervals."""

import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.config.stage_configs import TrainConfig
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.curriculum import Curriculum, UnrollSchedule, unroll
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories


def curriculum(**options):
    return Curriculum(TrainConfig(**options), seed=0)


def trainer_of(toml, *overrides, name="small-d4"):
    experiment = Experiment.read(toml, overrides)
    data = fs.generate(experiment)
    train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
    return prepare_training(experiment, name, train, valid, {})


def test_curriculum_by_progress():
    asked = [
        curriculum(steps=100, unroll=(1, 2, 4, 8), unroll_fraction=0.6).schedule_at(step).unroll for step in range(100)
    ]
    assert asked == [1] * 40 + [2] * 20 + [4] * 20 + [8] * 20


@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        ({"unroll": 3, "unroll_fraction": 0.2}, UnrollSchedule(0, 1), UnrollSchedule(0, 3)),
        ({"unroll": 3, "unroll_fraction": 0.0}, UnrollSchedule(0, 1), UnrollSchedule(0, 1)),
        ({"unroll": 3, "unroll_fraction": 1.0}, UnrollSchedule(0, 3), UnrollSchedule(0, 3)),
        ({"unroll": (2,), "unroll_fraction": 0.5}, UnrollSchedule(0, 2), UnrollSchedule(0, 2)),
        ({"unroll": 1, "push_forward": 2, "unroll_fraction": 0.5}, UnrollSchedule(0, 1), UnrollSchedule(2, 1)),
    ],
)
def test_first_and_last(options, first, last):
    asked = curriculum(steps=10, **options)
    assert (asked.schedule_at(0), asked.schedule_at(9)) == (first, last)
    assert asked.longest_span == max(first.span, last.span)


def test_push_forward_takes_no_gradient_through_the_lead(toml):
    """The gradient is that of one step from where the lead ended, and not that of the whole rollout."""
    trainer = trainer_of(toml, "data.steps=4")
    model, (states, inputs) = trainer.surrogate, trainer.batches.data.window(torch.arange(3), torch.zeros(3).long(), 3)

    def gradient(predicted, truth):
        model.network.zero_grad()
        (predicted - truth).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in model.network.parameters()])

    pushed = gradient(*unroll(model, states, states[:, 0], inputs, UnrollSchedule(2, 1)))
    with torch.no_grad():
        reached = rollout(model, states[:, 0], 2, inputs)[:, -1]
    torch.testing.assert_close(pushed, gradient(model(reached), states[:, 3]), rtol=1e-4, atol=1e-7)
    whole = gradient(rollout(model, states[:, 0], 3, inputs)[:, -1], states[:, 3])
    assert float((pushed - whole).norm() / whole.norm()) > 0.05


def test_noise_has_its_size_and_band_and_leaves_the_truth(toml):
    trainer = trainer_of(toml, "train.noise=0.5", "train.batch=64")
    model, start = trainer.surrogate, torch.zeros(64, 1, 16, 16)
    noise = trainer.curriculum.add_noise(model, start, 3, slice(0, 64), 64)
    held = 11**2 - 1  # modes of the band (5, 5) without the mean, of 16²
    expected = 0.5 * float(model.step.change) * (held / 256) ** 0.5
    assert float(noise.std()) == pytest.approx(expected, rel=0.02)
    spectrum = torch.fft.rfft2(noise).abs().mean((0, 1))
    assert float(spectrum[:, 6:].max()) < 1e-4 * float(spectrum[1, 1])
    halves = [trainer.curriculum.add_noise(model, start[rows], 3, rows, 64) for rows in (slice(0, 32), slice(32, 64))]
    assert torch.equal(torch.cat(halves), noise)
    assert not torch.equal(trainer.curriculum.add_noise(model, start, 4, slice(0, 64), 64), noise)


INTERVALS = ["models.small-d4.intervals=[1, 2]", "data.steps=6", "data.train=6", "train.learning_rate=1e-2"]


def test_a_network_that_takes_the_interval_learns_both(toml):
    experiment = Experiment.read(toml, [*INTERVALS, "train.steps=400"])
    data = fs.generate(experiment)
    model = fs.train(experiment, data, ["small-d4"])["small-d4"]
    valid = InMemoryTrajectories.from_dataset(data, "valid", experiment).states
    with torch.no_grad():
        double = model.every(2)
        assert double.spec.interval == 2 * model.spec.interval
        once, asked_for_one = double(valid[:, 0]), model(valid[:, 0])
    change = (valid[:, 2] - valid[:, 0]).square().mean()
    assert float((once - valid[:, 2]).square().mean() / change) < 0.5**2
    assert float((asked_for_one - valid[:, 2]).square().mean() / change) > float(
        (once - valid[:, 2]).square().mean() / change
    )
    with pytest.raises(UsageError, match=r"steps over \(1, 2\) stored intervals \(got 3\)"):
        model.every(3)
    with pytest.raises(UsageError, match=r"steps over \(1,\)"):
        fs.train(Experiment.read(toml), models=["small-cnn"])["small-cnn"].every(2)


def test_intervals_survive_save_and_load_and_keep_the_symmetry(toml, tmp_path):
    experiment = Experiment.read(toml, INTERVALS)
    data = fs.generate(experiment)
    model = fs.train(experiment, data, ["small-d4"])["small-d4"]
    fs.save(model, tmp_path)
    state = InMemoryTrajectories.from_dataset(data, "valid", experiment).states[:, 0]
    loaded = fs.load(tmp_path)
    with torch.no_grad():
        for multiple in (1, 2):
            assert torch.equal(loaded.every(multiple)(state), model.every(multiple)(state))
            turned = loaded.every(multiple)(torch.rot90(state, 1, (-2, -1)))
            torch.testing.assert_close(
                turned, torch.rot90(model.every(multiple)(state), 1, (-2, -1)), atol=1e-4, rtol=0
            )


def test_both_intervals_are_drawn():
    drawn = [Curriculum(TrainConfig(), 0, (1, 2)).schedule_at(step).stride for step in range(200)]
    assert 60 < sum(stride == 2 for stride in drawn) < 140
