"""Training: it learns, obeys the types, conserves the mean, and a checkpoint is the whole of it."""

import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.core.seeding import seeded_generators
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.provenance import model_provenance
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.fine_tuning import with_initial_model
from fluidsurrogate.training.optimisation import learning_rate_factor
from fluidsurrogate.training.train import prepare_training, train_model
from fluidsurrogate.training.trainer import Trainer
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import D4, TRACER, VELOCITY, VORTICITY, Grid, StateSpec, act_on_fields

MINIATURE = Path(__file__).parents[1] / "miniature.toml"


@pytest.fixture
def data(miniature_data):
    return miniature_data


def test_overfits_a_tiny_set(toml):
    """The training loss falls by a factor of 100 on two transitions."""
    experiment = Experiment.read(
        toml, ["data.train=1", "data.steps=2", "train.steps=200", "train.learning_rate=1e-2", "train.unroll=1",
               "train.valid_every=5", "models.small-d4.width=32"],
    )  # fmt: skip
    train, valid = (InMemoryTrajectories.from_dataset(fs.generate(experiment), "train", experiment) for _ in range(2))
    trainer = prepare_training(experiment, "small-d4", train, valid, {})
    trainer.run()
    losses = [row["loss"] for row in trainer.history]
    assert losses[0] / min(losses) > 100


def test_beats_persistence_on_unseen_starts(toml):
    experiment = Experiment.read(toml, ["train.steps=200", "train.learning_rate=1e-2", "data.train=6"])
    data = fs.generate(experiment)
    test = data.isel(trajectory=slice(7, 9))
    forecast = fs.forecast(fs.train(experiment, data, ["small-d4"])["small-d4"], test, 4)
    persistence = test.isel(time=[0] * 5).assign_coords(time=test["time"])
    scores = fs.compare({"model": forecast, "persistence": persistence}, test)["nrmse_first_step"]
    assert float(scores[0]) < 0.5 * float(scores[1])


def test_validation_in_parts_is_that_of_the_whole_set(toml):
    """Its score: the geometric mean over the lead times of the forecasts' mean nRMSE."""
    experiment = Experiment.read(toml, ["data.valid=3", "train.batch=2", "train.steps=1"])
    data = fs.generate(experiment)
    valid = InMemoryTrajectories.from_dataset(data, "valid", experiment)
    trainer = prepare_training(
        experiment, "small-d4", InMemoryTrajectories.from_dataset(data, "train", experiment), valid, {}
    )
    model = trainer.run()
    with torch.no_grad():
        error = rollout(model, valid.states[:, 0], valid.size[1] - 1) - valid.states
    by_time = (error.square().mean((2, 3, 4)) / valid.states.square().mean((2, 3, 4))).sqrt().mean(0)[1:]
    assert trainer.history[-1]["valid_nrmse"] == pytest.approx(float(by_time.log().mean().exp()), rel=1e-5)


def test_mean_is_conserved(experiment, data):
    """Every model keeps the mean vorticity; a start with a mean keeps it too."""
    start = data.isel(trajectory=[0], time=[0]) + 0.7
    start["vorticity"].attrs = data["vorticity"].attrs
    for model in fs.train(experiment, data).values():
        forecast = fs.forecast(model, start, 4)["vorticity"]
        assert float(abs(forecast.mean(("y", "x")) - 0.7).max()) < 1e-5
        assert float(abs(forecast[0, 4] - forecast[0, 0]).max()) > 1e-2


def test_scaling_obeys_the_types():
    spec = StateSpec(Grid.square(8), (VORTICITY, TRACER, VELOCITY), 1.0)
    states = torch.randn(5, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0)) + 2.0
    states[:, :, 3] *= 10
    normalisation = Normalisation.fit(spec, lambda: [(states, {})])
    assert (
        normalisation.shift[0] == normalisation.shift[2] == 0.0
    )  # pseudoscalar and vector: a shift would not turn with them
    assert normalisation.shift[1] == pytest.approx(float(states[:, :, 1].mean()), rel=1e-6)
    _, scale, _ = normalisation.to_tensors(spec)
    assert scale[2] == scale[3]  # a vector's components share a scale
    turned = torch.stack([act_on_fields(spec.fields, trajectory, D4.elements[1]) for trajectory in states])
    assert Normalisation.fit(spec, lambda: [(turned, {})]).scale == pytest.approx(normalisation.scale, rel=1e-6)


def test_band_is_the_solvers(toml, experiment, data):
    train = InMemoryTrajectories.from_dataset(data, "train", experiment)
    assert Normalisation.fit(experiment.spec, train.chunks).band == (5, 5)  # (16 - 1) // 3
    short = Experiment.read(toml, ["data.interval=0.002"])  # a change so small that rounding is not far below it
    train = InMemoryTrajectories.from_dataset(fs.generate(short), "train", short)
    assert Normalisation.fit(experiment.spec, train.chunks).band == (5, 5)
    noisy = train.states + torch.randn(train.states.shape)
    assert Normalisation.fit(experiment.spec, lambda: [(noisy, {})]).band == (8, 8)


def test_every_window_once_an_epoch(experiment, data):
    train = InMemoryTrajectories.from_dataset(data, "train", experiment)
    trainer = prepare_training(experiment, "small-cnn", train, train, {})
    seen = []
    for trainer.step in range(6):  # 3 trajectories x 4 windows = 2 epochs of 3 batches of 4
        which, first = trainer.batches.draw_windows(trainer.step)
        seen += [int(w) * 4 + int(f) for w, f in zip(which, first, strict=True)]
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]


def test_augmentation_moves_state_and_inputs_together(toml):
    experiment = Experiment.read(toml, ["flow.kind=kolmogorov", "flow.spin_up=0"])
    train = InMemoryTrajectories.from_dataset(fs.generate(experiment), "train", experiment)
    trainer = prepare_training(experiment, "small-cnn", train, train, {})
    moved = {tuple(trainer.augment(train.states, dict(train.inputs), trainer.step)[1]["forcing"].flatten().tolist())
             for trainer.step in range(40)}  # fmt: skip
    assert len(moved) == 4  # C2 keeps the forcing, so D4 makes four of it


def test_warm_up_and_cosine(experiment):
    factors = [learning_rate_factor(experiment.train, step) for step in range(8)]
    np.testing.assert_allclose(factors[:2], [0.5, 0.5 * (1 + np.cos(np.pi / 8))])
    assert factors == sorted(factors[:1]) + sorted(factors[1:], reverse=True)
    assert factors[-1] < 0.05


def test_same_seed_same_weights_whatever_else_is_drawn(experiment, data):
    first = train_model(experiment, "small-d4", data, {}).network.state_dict()
    torch.randn(7)
    second = train_model(experiment, "small-d4", data, {}).network.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def double():
    """Double precision as torch's default, as some users set it."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


KINDS = """{c = {kind = 'cnn', width = 8, augment = 'D4'}, g = {kind = 'gunet', width = 8},
    f = {kind = 'gfno', width = 8}, h = {kind = 'cnn', width = 8, solver = {}},
    e = {kind = 'cnn', width = 8, networks = 2}}""".replace("\n", "")


def everything(toml, folder):
    """What each stage makes, bit by bit, of several kinds of models."""
    experiment = Experiment.read(toml, [f"models={KINDS}", "train.noise=0.1", "train.steps=3", "train.unroll=1"])
    data = fs.generate(experiment)
    made = {"data": data["vorticity"].values}
    for name, model in fs.train(experiment, data).items():
        made |= {(name, key): value.numpy() for key, value in model.network.state_dict().items()}
        fs.save(model, folder / name)
        loaded = fs.load(folder / name)
        made[name, "forecast"] = fs.forecast(loaded, data, 2)["vorticity"].values
        made[name, "turned"] = fs.audit(loaded, steps=1, angles=[30.0], shifts=[])["rotation_error"].values
    calibrated = fs.calibrate(loaded if loaded.is_markov else fs.load(folder / "c"), 20, 2, 3)
    return made | {"members": fs.forecast(calibrated, data, 2, members=3)["vorticity"].values}


def global_random_state():
    return torch.get_rng_state().tolist(), str(np.random.get_state())  # noqa: NPY002


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Everything, made once; its folder, and the global random states before and after."""
    folder, before = tmp_path_factory.mktemp("everything"), global_random_state()
    return everything(MINIATURE, folder), folder, (before, global_random_state())


def test_the_default_dtype_changes_no_bit(once, toml, tmp_path, request):
    before, _, _ = once
    request.getfixturevalue("double")
    after = everything(toml, tmp_path)
    assert before.keys() == after.keys()
    assert [key for key in before if not np.array_equal(before[key], after[key])] == []


def test_global_random_state_is_left_alone(once, toml, tmp_path):
    """That of torch and of NumPy, by every stage; that of Python is drawn from by the checks of types under test."""
    _, folder, states = once
    assert states[0] == states[1]
    before = global_random_state()
    data = fs.generate(toml)
    data.to_zarr(tmp_path / "data.zarr", consolidated=False)
    fs.train(Experiment.read(toml, ["train.loaders=1", "train.steps=2"]), tmp_path / "data.zarr", "small-cnn")
    fs.info(folder / "c")
    assert global_random_state() == before


def test_seeded_draws_the_same_and_leaves_no_trace():
    """Also of NumPy's and Python's, from which a module of the user's may draw."""

    def draw():
        return float(torch.rand(())), float(np.random.random()), random.random()  # noqa: NPY002

    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    expected = draw()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    seen = []
    for _ in range(2):
        with seeded_generators(2**63 - 1, torch.device("cpu")):
            seen.append(draw())
    assert seen[0] == seen[1] != expected
    assert draw() == expected


def test_data_that_does_not_fit(toml, data):
    for override, said in [("data.interval=0.5", "interval"), ("grid.n=32", "grid is 16 x 16")]:
        with pytest.raises(UsageError, match=said):
            fs.train(Experiment.read(toml, [override]), data)
    with pytest.raises(UsageError, match="unknown model 'nobody'"):
        fs.train(toml, data, ["nobody"])


def test_diverging_training_stops_with_advice(toml, data):
    experiment = Experiment.read(toml, ["train.learning_rate=1e30", "train.warmup=0"])
    with pytest.raises(UsageError, match=r"loss is not finite at step \d+: lower train.learning_rate"):
        fs.train(experiment, data, ["small-cnn"])


@pytest.mark.parametrize("step", [1, 4, 13])
def test_the_step_that_diverged_is_named(toml, data, tmp_path, monkeypatch, step):
    """Losses are read once in ten steps, before a validation and before a checkpoint: no diverged step is kept."""
    taken, loss = [], Trainer._loss

    def loss_of(self, *arguments):
        taken.append(self.step)
        return loss(self, *arguments) * (np.nan if self.step == step else 1)

    monkeypatch.setattr(Trainer, "_loss", loss_of)
    experiment = Experiment.read(toml, ["train.steps=30", "train.valid_every=30", "train.checkpoint_every=3"])
    with pytest.raises(UsageError, match=rf"the loss is not finite at step {step}: lower train.learning_rate"):
        train_model(experiment, "small-cnn", data, {}, tmp_path)
    assert step <= taken[-1] < step + 3
    weights = safetensors.torch.load_file(tmp_path / "checkpoint.safetensors") if step > 3 else {}
    assert all(weight.isfinite().all() for weight in weights.values())


def test_losses_are_read_once_in_ten_steps(toml, data, monkeypatch):
    reads, check = [], Trainer._check_finite

    def counted(self):
        reads.append((self.step, len(self._unread)))
        check(self)

    monkeypatch.setattr(Trainer, "_check_finite", counted)
    experiment = Experiment.read(toml, ["train.steps=30", "train.valid_every=30", "train.checkpoint_every=30"])
    train_model(experiment, "small-cnn", data, {})
    assert [read for read in reads if read[1]] == [(0, 1), (10, 10), (20, 10), (30, 9)]


def test_the_learning_rate_is_not_blamed_for_what_was_there_before(toml, data):
    class Broken(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x) / 0

    broken = torch.nn.Conv2d(1, 1, 1)
    broken.weight.data[:] = np.nan
    for module, said in (
        (broken, "m: the loss is not finite at step 0: the weights of the network are not finite before the training"),
        (Broken(1, 1, 1), "m: the loss is not finite at step 0: the untrained network turns these data into values"),
    ):
        with pytest.raises(UsageError, match=said):
            fs.train(toml, data, {"m": module})


def test_without_a_compiler(toml, data, tmp_path):
    """One line; in a process of its own, in which no types are checked."""
    script = (
        f"import fluidsurrogate as fs\nexperiment = fs.Experiment.read({str(toml)!r}, ['train.compile=true'])\n"
        f"data = fs.generate(experiment)\ntry:\n    fs.train(experiment, data, 'small-cnn')\n"
        "except fs.UsageError as error:\n    print(error)\n"
    )
    none = {"CXX": "/no/such", "CC": "/no/such", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | none, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("train.compile = true: torch cannot compile the network here: ")
    assert "/no/such" in line


def test_a_mean_that_hides_the_flow_is_said(toml, data, caplog):
    """The miniature's vorticity has an RMS of about 1."""
    small, large, huge = (data.assign(vorticity=data["vorticity"] + mean) for mean in (1.0, 100.0, 1e5))
    fs.train(toml, small, "small-cnn")
    assert "the mean of" not in caplog.text
    fs.train(toml, large, "small-cnn")
    (line,) = [record.message for record in caplog.records if "the mean of" in record.message]
    rms = float(np.sqrt((data["vorticity"][:3] ** 2).mean()))
    assert line == (f"small-cnn: the mean of vorticity over the box, 100, is {100 / rms:.3g} times its fluctuations; "
                    "it is conserved and has no effect on the flow: subtract it from the data")  # fmt: skip
    with pytest.raises(UsageError, match=r"the mean of vorticity over the box, 1e\+05, leaves fewer than three digits"):
        fs.train(toml, huge, "small-cnn")
    scalar = Experiment.read(toml, ["flow.tracer={diffusivity=1e-2}"])
    warm = fs.generate(scalar)
    fs.train(scalar, warm.assign(tracer=warm["tracer"] + 100), "small-cnn")
    assert caplog.text.count("the mean of") == 1  # a scalar is shifted


def weights_of(toml, data, *overrides, name="small-d4"):
    return fs.train(Experiment.read(toml, overrides), data, [name])[name].network.state_dict()


def distance(a, b):
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def test_accumulated_parts_are_the_batch(toml, data):
    whole, parts = (weights_of(toml, data, *o) for o in ((), ("train.accumulate=2",)))
    assert distance(whole, parts) < 1e-6
    halved = weights_of(toml, data, "train.batch=2")  # the control: half the batch is another training
    assert distance(whole, halved) > 1e-4


@pytest.mark.parametrize("factor", [100, 0])
def test_validation_is_the_score_of_several_fields(toml, tmp_path, factor):
    """Each in its own units: the mean over the fields of what `compare` gives; finite where one of them is zero."""
    experiment = Experiment.read(toml, ["flow.tracer={diffusivity=1e-2}"])
    data = fs.generate(experiment)
    data["tracer"] = (factor * data["tracer"]).assign_attrs(data["tracer"].attrs)
    model = train_model(experiment, "small-cnn", data, {}, tmp_path)
    valid = data.isel(trajectory=data["split"].values == "valid")
    scores = fs.compare({"model": fs.forecast(model, valid, 4)}, valid, metrics=["nrmse"])
    best = min(np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True), key=lambda row: row["valid_nrmse"])
    if not factor:
        assert best["valid_nrmse"] < 10
        return
    assert best["valid_nrmse_first_step"] == pytest.approx(float(scores["nrmse_first_step"][0]), rel=1e-6)
    assert best["valid_nrmse"] == pytest.approx(float(scores["nrmse_geometric_mean"][0]), rel=1e-6)


def test_average_of_the_weights(toml, data, tmp_path):
    """a := d a + (1 − d) w from the fresh weights on, followed by hand; the last validation is of the average."""
    options = ["train.average=0.7", "train.valid_every=8"]
    experiment = Experiment.read(toml, options)
    train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
    trainer = prepare_training(experiment, "small-d4", train, valid, {})
    average = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    seen = []

    def follow(step, note):
        decay = min(0.7, step / (9 + step))
        for key, value in trainer.network.state_dict().items():
            average[key] = decay * average[key] + (1 - decay) * value
        seen.append(trainer.network.state_dict()["lift.weight"].clone())

    model = trainer.run(report=follow)
    assert distance(model.network.state_dict(), average) < 1e-6
    assert float((model.network.state_dict()["lift.weight"] - seen[-1]).abs().max()) > 1e-4


def test_bfloat16_is_near_and_not_the_same(toml, data):
    full, half = (weights_of(toml, data, *o) for o in ((), ("train.precision=bfloat16",)))
    assert 1e-6 < distance(full, half) < 0.05
    assert all(value.dtype is torch.float32 for value in half.values())


def test_patience_stops_and_keeps_the_best(toml, data, tmp_path):
    """With a learning rate that spoils everything the first validation stays the best one."""
    experiment = Experiment.read(
        toml, ["train.steps=60", "train.valid_every=2", "train.patience=3", "train.learning_rate=0.3", "train.warmup=0"]
    )
    train_model(experiment, "small-d4", data, {}, tmp_path)
    rows = np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True)
    best = int(rows["valid_nrmse"].argmin())
    assert len(rows) == best + 4 < 30
    model = train_model(experiment, "small-d4", data, {}, tmp_path)  # a run that had stopped stays where it is
    assert len(np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True)) == len(rows)
    again = Experiment.read(
        toml, ["train.steps=60", "train.learning_rate=0.3", "train.warmup=0", "train.valid_every=2"]
    )
    trainer_rows = train_model(again, "small-d4", data, {}, None).network.state_dict()
    assert trainer_rows.keys() == model.network.state_dict().keys()


def test_fine_tuning_starts_from_a_trained_model(toml, data, tmp_path):
    fs.save(fs.train(toml, data, ["small-d4"])["small-d4"], tmp_path / "first")
    other = Experiment.read(toml, ["flow.viscosity=5e-2", "train.learning_rate=1e-12", "train.weight_decay=0"])
    changed = fs.generate(other)
    tuned = fs.train(other, changed, ["small-d4"], init=tmp_path / "first")["small-d4"]
    kept = fs.load(tmp_path / "first").network.state_dict()
    assert distance(tuned.network.state_dict(), kept) < 1e-6
    first, no_budget = fs.load(tmp_path / "first"), {"budget_coefficients": None}  # the budget is that of the new flow
    assert replace(tuned.normalisation, **no_budget) == replace(first.normalisation, **no_budget)
    longer = fs.generate(Experiment.read(toml, ["data.interval=0.5"]))  # other states: their own normalisation
    slower = Experiment.read(toml, ["data.interval=0.5", "train.learning_rate=1e-12", "train.weight_decay=0"])
    refitted = fs.train(slower, longer, ["small-d4"], init=tmp_path / "first")["small-d4"]
    assert refitted.normalisation.change != first.normalisation.change
    assert distance(refitted.network.state_dict(), kept) < 1e-6
    shutil.copytree(tmp_path / "first", tmp_path / "moved")
    provenance = [
        model_provenance(with_initial_model(other, tmp_path / where), "small-d4", {}) for where in ("first", "moved")
    ]
    assert provenance[0] == provenance[1] != model_provenance(other, "small-d4", {})
    fresh = fs.train(other, changed, ["small-d4"])["small-d4"]
    assert distance(fresh.network.state_dict(), kept) > 5e-3
    for overrides, said in [
        (["models.small-d4.width=8"], "has weights of other shapes than this model"),
        (["models={c = {kind = 'cnn'}}"], "is a 'gcnn' with group 'D4', and the experiment has no such model"),
    ]:
        with pytest.raises(UsageError, match=said):
            fs.train(Experiment.read(toml, overrides), data, init=tmp_path / "first")
    with pytest.raises(UsageError, match="is not a model"):
        fs.train(toml, data, init=tmp_path)
    fs.save(
        fs.train(Experiment.read(toml, ["models.small-d4.group=C4"]), data, ["small-d4"])["small-d4"], tmp_path / "c4"
    )
    start = f"models.small-d4.init={tmp_path / 'c4'}"  # D2 has as many elements, and so weights of the same shape
    with pytest.raises(UsageError, match="has the group C4 and this model has D2"):
        fs.train(Experiment.read(toml, ["models.small-d4.group=D2", start]), data, ["small-d4"])


def test_fine_tuning_on_a_flow_with_other_inputs(toml, tmp_path):
    """A new input does nothing at first, a lost one is at its mean, a shared one is kept, whatever its place."""
    viscosity, forcing = ["flow.viscosity=[1e-2, 2e-2]"], ["flow.kind=kolmogorov", "flow.spin_up=0"]
    still = ["train.learning_rate=1e-12", "train.weight_decay=0", "train.steps=1"]

    def train(name, overrides, start=None):
        experiment = Experiment.read(toml, overrides)
        model = fs.train(experiment, models=["small-d4"], init=start and tmp_path / start)["small-d4"]
        fs.save(model, tmp_path / name)
        return model

    def said(model, **given):
        vorticity = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        inputs = [torch.full_like(vorticity, given[field.name]) for field in model.spec.inputs]
        return model.network(torch.cat([vorticity, *inputs, 0.5 * vorticity.expand(-1, 2, -1, -1)], dim=1)).detach()

    first = train("first", viscosity)
    both = train("both", [*viscosity, *forcing, *still], "first")
    assert float((said(both, viscosity=0.7, forcing=3.0) - said(first, viscosity=0.7)).abs().max()) < 1e-5
    lost = train("lost", [*forcing, *still], "both")
    assert float((said(lost, forcing=3.0) - said(first, viscosity=0.0)).abs().max()) < 1e-5
    assert float((said(first, viscosity=0.7) - said(first, viscosity=0.0)).abs().max()) > 1e-3
    with pytest.raises(UsageError, match="give both the same kind, options, fields and inputs"):
        fs.train(Experiment.read(toml, ["data.state=velocity"]), models=["small-d4"], init=tmp_path / "both")


@pytest.mark.slow
def test_compiled_training_ends_near_the_eager_one(toml):
    """In a process of its own: what checks shapes under test is no part of what is compiled. In double precision: in
    single, AdamW makes whole steps of gradients that are nothing but rounding."""
    program = f"""
import fluidsurrogate as fs
def train(compiled):
    experiment = fs.Experiment.read({str(toml)!r}, ["dtype=float64", "train.compile=" + compiled])
    return fs.train(experiment, models=["small-cnn"])["small-cnn"].network.state_dict()
a, b = train("false"), train("true")
print(max(float((a[key] - b[key]).abs().max()) for key in a))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 1e-8


def test_tensorboard_gets_every_row(toml, data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_model(Experiment.read(toml, ["train.tensorboard=true"]), "small-cnn", data, {}, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True)
    got = events.Scalars("valid_nrmse")
    assert [event.step for event in got] == rows["step"].tolist()
    np.testing.assert_allclose([event.value for event in got], rows["valid_nrmse"], rtol=1e-6)


def test_last_weights_are_kept_beside_the_best(toml, data, tmp_path):
    from safetensors.torch import load_file

    experiment = Experiment.read(toml, ["train.average=0.5"])
    fs.save(train_model(experiment, "small-cnn", data, {}, tmp_path), tmp_path)
    best, last = (load_file(tmp_path / name) for name in ("weights.safetensors", "last.safetensors"))
    assert best.keys() == last.keys()
    loaded = fs.load(tmp_path, last=True).network.state_dict()
    assert all(torch.equal(loaded[key], last[key]) for key in last)
