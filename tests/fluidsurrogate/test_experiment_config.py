"""An experiment: overrides, defaults, and every bad input refused in a line that says what to do."""

import copy
import pickle

import numpy as np
import pytest

from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.config.experiment_checks import check_groups


def refusal(toml, *overrides):
    with pytest.raises(UsageError) as caught:
        Experiment.read(toml, overrides)
    return str(caught.value)


def test_defaults_and_overrides(toml):
    experiment = Experiment.read(toml, ["train.steps=5", "flow.viscosity=1e-3", "name=other", "models.extra.kind=cnn"])
    assert (experiment.train.steps, experiment.build_flow().viscosity, experiment.name) == (5, 1e-3, "other")
    assert experiment.models["extra"].builder_options()["width"] == 16
    assert Experiment.from_tree(experiment.tree()) == experiment


FLOWS_WITH_PARTS = [
    ["flow.viscosity={low = 1e-2, high = 2e-2}", "flow.tracer={diffusivity = [1e-2, 2e-2]}"],
    ["flow={kind = 'kolmogorov', viscosity = 1e-2, wavenumber = 2}"],
]


@pytest.mark.parametrize("overrides", [[], *FLOWS_WITH_PARTS])
def test_pickled_and_copied(toml, overrides):
    experiment = Experiment.read(toml, overrides)
    for twin in (pickle.loads(pickle.dumps(experiment)), copy.deepcopy(experiment)):
        assert twin == experiment
        assert twin.tree() == experiment.tree()
        assert type(twin.flow) is type(experiment.flow)
        assert twin.spec == experiment.spec


def test_frozen(experiment):
    with pytest.raises(ValueError, match="frozen"):
        experiment.seed = 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("flow.viscosity=-1.0", "viscosity must be positive and finite (got -1.0)"),
        ("flow.viscosity=0", "viscosity must be positive and finite (got 0.0)"),
        ("flow.viscosity=nan", "flow.viscosity: input should be a finite number"),
        ("flow.viscosity=inf", "flow.viscosity: input should be a finite number"),
        ("flow.viscosity=thick", "flow.viscosity: input should be a valid number (got 'thick')"),
        ("flow.drag=-1", "drag must be finite and at least 0"),
        ("grid.length=-1.0", "length must be positive and finite (got -1.0)"),
        ("grid.length=nan", "grid.length: must be one finite number, [y, x] or [z, y, x]"),
        ("grid.length=0", "length must be positive and finite"),
        ("grid.n=17", "n must be even and at least 8 (got 17)"),
        ("grid.n=2", "n must be even and at least 8 (got 2)"),
        ("grid.n=16.5", "grid.n: must be one whole number, [y, x] or [z, y, x] (got 16.5)"),
        ("grid.store=32", "store must be at most n along each axis, and square if and only if n is (got 32)"),
        ("grid.store=[8, 16]", "store must be at most n along each axis"),
        ("grid.store=9", "n must be even and at least 8 (got 9)"),
        ("grid.n=[16, 16, 16, 16]", "grid: n must be one number, [y, x] or [z, y, x] (got [16, 16, 16, 16])"),
        ("data.train=0", "data.train: input should be greater than or equal to 1 (got 0)"),
        ("data.test=-3", "data.test: input should be greater than or equal to 1"),
        ("data.steps=1.5", "data.steps: input should be a valid integer"),
        ("data.interval=0", "data.interval: input should be greater than 0"),
        ("data.interval=true", "data.interval: input should be a valid number"),
        ("flow.kind=raining", "flow.kind: unknown flow 'raining'; one of 'convection', 'decaying', "),
        ("models.small-cnn.kind=transformer", "models.small-cnn.kind: unknown model 'transformer'; one of"),
        ("models.small-d4.group=D5", "models.small-d4: unknown group 'D5'; one of C1, C2, C4"),
        (
            "models.small-cnn.augment=D5",
            "models.small-cnn: unknown group 'D5'; one of C1, C2, C4, D1, D1y, D1d, D1a, D2, D2d, D4",
        ),
        ("compare.metrics=['rmse']", "compare: unknown metric 'rmse'; one of "),
        ("compare.members=2", "compare.members: input should be greater than or equal to 3 (got 2)"),
        ("compare.members=8.5", "compare.members: input should be a valid integer"),
        ("compare.calibration_starts=19", "calibration_starts: input should be greater than or equal to 20 (got 19)"),
        ("data.test_steps=0", "data.test_steps: input should be greater than or equal to 1 (got 0)"),
        ("data.test_steps=2.5", "data.test_steps: input should be a valid integer"),
        ("data.state='pressure'", "data.state: input should be 'vorticity' or 'velocity'"),
        ("models.small-d4.width=12", "models.small-d4: width must be a multiple of the 8 elements of D4 (got 12)"),
        ("grid.n=[16, 32]", "models.small-d4: group 'D4' is not a symmetry of this rectangle"),
        ("train.steps=0", "train.steps: input should be greater than or equal to 1"),
        ("train.learning_rate=-1.0", "train.learning_rate: input should be greater than 0"),
        (
            "train.unroll=9",
            "models.small-d4.intervals need training trajectories of at least 9 intervals; data.steps = 4",
        ),
        ("train.unroll=0", "train.unroll.1: input should be greater than or equal to 1 (got 0)"),
        ("train.unroll=[]", "train: unroll must name at least one number of intervals"),
        ("train.unroll=[1, 2.5]", "train.unroll.1: input should be a valid integer"),
        ("train.unroll='all'", "train.unroll: input should be a valid array"),
        ("train.unroll=true", "train.unroll: input should be a valid array"),
        ("train.unroll_fraction=1.5", "train.unroll_fraction: input should be less than or equal to 1"),
        ("train.push_forward=-1", "train.push_forward: input should be greater than or equal to 0"),
        ("train.push_forward=7", "need training trajectories of at least 9 intervals; data.steps = 4"),
        (
            "train={push_forward = 1, unroll_fraction = 0.0}",
            "push_forward needs unroll_fraction > 0",
        ),
        ("train.noise=-0.1", "train.noise: input should be greater than or equal to 0"),
        ("train.noise=inf", "train.noise: input should be a finite number"),
        ("train.loss=l3", "train: unknown loss 'l3'; one of bands, change, h1, l2"),
        ("train.average=1.0", "train.average: input should be less than 1"),
        ("train.precision=half", "train.precision: input should be 'full' or 'bfloat16'"),
        ("train.accumulate=3", "train: accumulate must divide batch = 4 (got 3)"),
        ("train.accumulate=0", "train.accumulate: input should be greater than or equal to 1"),
        ("train.compile=1", "train.compile: input should be a valid boolean"),
        ("train.tensorboard='yes'", "train.tensorboard: input should be a valid boolean"),
        ("train.patience=-1", "train.patience: input should be greater than or equal to 0"),
        ("train.loaders=-1", "train.loaders: input should be greater than or equal to 0"),
        ("models.small-d4.networks=1.5", "models.small-d4.networks: input should be a valid integer"),
        ("models.small-d4.init=3", "models.small-d4.init: input should be a valid string"),
        ("models.small-d4.intervals=[2, 4]", "intervals must be at least two different numbers, 1 among them"),
        ("models.small-d4.intervals=[1, 1]", "intervals must be at least two different numbers, 1 among them"),
        ("models.small-d4.intervals=[0, 1]", "models.small-d4.intervals.0: input should be greater than or equal to 1"),
        (
            "models.small-d4.intervals=[1, 4]",
            "models.small-d4.intervals need training trajectories of at least 8 intervals; data.steps = 4",
        ),
        ("models.small-d4.solver=3", "models.small-d4.solver must be a table (got 3)"),
        ("models.small-d4.solver={order = 3}", "models.small-d4.solver.order: input should be 2 or 4"),
        ("models.small-d4.solver={n = 9}", "n must be even and at least 8 (got 9)"),
        ("models.small-d4.solver={n = 'fine'}", "must be one whole number, [y, x] or [z, y, x]"),
        ("models.small-d4.solver={dt = 0.1}", "dt must divide the interval 0.25"),
        ("solver.dt=0.1", "dt must divide the interval 0.25 into at most 100000 steps (got 0.1)"),
        ("solver.order=3", "solver.order: input should be 2 or 4"),
        (
            "solver.kernel=fortran",
            "solver.kernel: backend must be one of auto, compile, graph, native, torch (got 'fortran')",
        ),
        ("solver.kernel=graph", "backend 'graph' is not available: it needs a fixed dt on a CUDA device"),
        ("flow.wavenumber=9", "too coarse for modes"),
        ("flow.wavenumber=1e7", "too coarse for modes"),
        ("grid.n=100000000", "n must be at most 65536"),
        ("models.small-cnn.dilations=[0]", "dilation must be at least 1 (got 0)"),
        ("models.small-cnn.dilations=[17]", "a kernel that reaches 17 cells does not fit a grid of (16, 16)"),
        ("models.small-cnn.width=0", "width must be a multiple"),
        ("models.'a/b'.kind=cnn", "should match pattern"),
        ("device=meta", "device 'meta' is not available here"),
        ("dtype=float16", "dtype: input should be 'float32' or 'float64'"),
        ("device=abacus", "device 'abacus' is not available here"),
        ("name=../up", "name: string should match pattern"),
        ("seed=-1", "seed: input should be greater than or equal to 0"),
        ("train.steps", "--set train.steps: expected dotted.key=value"),
        ("=3", "expected dotted.key=value"),
        ("seed.deep=3", "'seed' is a value, not a table"),
    ],
)
def test_bad_value(toml, override, said):
    message = refusal(toml, override)
    assert said in message
    assert len(message.splitlines()) == 1


def test_an_ensemble_in_half_precision(toml):
    said = refusal(toml, "models.small-d4.networks=2", "train.precision=bfloat16")
    assert "models.small-d4: networks > 1 needs train.precision = 'full'" in said


def test_half_precision_of_double_precision(toml):
    assert "train.precision = 'bfloat16' needs dtype = 'float32'" in refusal(
        toml, "dtype=float64", "train.precision=bfloat16"
    )


STIRRED = ["flow={kind = 'stirred', viscosity = 1e-2, wavenumber = 2, spin_up = 0}"]
SHEAR = ["flow={kind = 'shear'}"]
CONVECTION = ["flow={kind = 'convection', viscosity = 1e-2, diffusivity = 1e-2}", "grid.n=40"]
LAYER = ["flow={kind = 'rayleigh_benard'}", "grid.length=2.0"]
TRACER = ["flow.tracer={diffusivity = 1e-2, wavenumber = 2}"]
NO_MODELS = "models={}"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["flow.viscosity=[]"], "flow.viscosity: list should have at least 1 item"),
        (["flow.viscosity=[1e-2, -1e-3]"], "viscosity must be positive and finite (got -0.001)"),
        (["flow.viscosity=[1e-2, 'thin']"], "flow.viscosity.1: input should be a valid number (got 'thin')"),
        (["flow.viscosity={low = 1e-2}"], "flow.viscosity.high is missing"),
        (["flow.viscosity={low = 1e-2, high = 1e-3}"], "flow.viscosity: low must be less than high"),
        (["flow.viscosity={low = 0.0, high = 1e-3}"], "viscosity must be positive and finite (got 0.0)"),
        (["flow.viscosity={low = -1.0, high = 1.0, distribution = 'log-uniform'}"], "low must be positive if"),
        (["flow.viscosity={low = 1e-3, high = inf}"], "flow.viscosity.high: input should be a finite number"),
        (["flow.viscosity={low = 1e-3, high = 1.0, distribution = 'cauchy'}"],
         "flow.viscosity.distribution: input should be 'uniform' or 'log-uniform' (got 'cauchy')"),
        (["flow.rms=[3.0, 0.0]"], "rms must be positive and finite (got 0.0)"),
        (["flow.wavenumber=[2.0, 9.0]"], "too coarse for modes"),
        (["flow.spin_up=[0.5, 1.0]"], "spin_up must be one number, the same for every trajectory"),
        (["flow.mean_velocity=1.0"], "flow.mean_velocity: input should be a valid"),
        (["flow.mean_velocity=[1.0, inf]"], "finite"),
        (["flow.mean_velocity=[1.0]"], "flow.mean_velocity"),
        ([*TRACER, "flow.tracer.diffusivity=-1.0"], "diffusivity must be finite and at least 0 (got -1.0)"),
        (["flow.tracer.wavenumber=2"], "flow.tracer.diffusivity is missing"),
        (["flow.tracer=3"], "flow.tracer must be a table (got 3)"),
        ([*TRACER, "flow.tracer.rms=0.0"], "rms must be positive where there is no mean_gradient"),
        ([*TRACER, "flow.tracer.bandwidth=0"], "bandwidth must be positive"),
        ([*TRACER, "flow.tracer.wavenumber=9"], "too coarse for modes"),
        ([*TRACER, "flow.tracer.mean_gradient=[0.0, nan]"], "finite"),
        ([*TRACER, "flow.tracer.mean_gradient=1"], "flow.tracer.mean_gradient"),
        ([*TRACER, "flow.tracer.diffusivity=[1e-2, -1.0]"], "diffusivity must be finite and at least 0 (got -1.0)"),
        ([*STIRRED, "flow.rate=0"], "rate must be positive and finite (got 0.0)"),
        ([*STIRRED, "flow.rate=[0.1, 0.2]"], "the parameters of the stochastic forcing must be the same"),
        ([*STIRRED, "flow.renewal=-1.0"], "renewal must be positive"),
        ([*STIRRED, "flow.bandwidth=0"], "bandwidth must be positive"),
        ([*STIRRED, "flow.wavenumber=0.5", "flow.bandwidth=0.1"], "no wavenumbers within"),
        ([*STIRRED, "flow.wavenumber=7"], "too coarse for modes"),
        ([*STIRRED, "solver.dt=0.125"], "dt must divide the interval 0.05"),
        ([*SHEAR, "flow.reynolds=0"], "reynolds must be positive"),
        ([*SHEAR, "flow.schmidt=-1"], "schmidt must be positive"),
        ([*SHEAR, "flow.layers=3"], "layers must be even (got 3)"),
        ([*SHEAR, "flow.layers=2.5"], "flow.layers: input should be a valid integer"),
        ([*SHEAR, "flow.waves=0"], "waves must be positive"),
        ([*SHEAR, "flow.width=0"], "width must be positive"),
        ([*SHEAR, "flow.nudge=0"], "nudge must be positive"),
        ([*SHEAR, NO_MODELS, "flow.viscosity=1e-3"], "unknown key 'flow.viscosity'"),
        ([*CONVECTION, "flow.gravity=0"], "gravity must be positive"),
        ([*CONVECTION, "flow.gravity=[0.0, -1.0]"], "gravity must be positive"),
        ([*CONVECTION, "flow.diffusivity=-1.0"], "diffusivity must be finite and at least 0"),
        ([*CONVECTION, "flow.tilt=nan"], "flow.tilt: input should be a finite number"),
        ([*CONVECTION, "flow.stratification=inf"], "flow.stratification: input should be a finite number"),
        ([*CONVECTION, "flow.blobs=0"], "blobs must be positive"),
        ([*CONVECTION, "flow.radius=0"], "radius must be positive"),
        ([*CONVECTION, "flow.radius=0.01"], "too coarse for modes"),
        ([*CONVECTION, "flow.warmth=0"], "warmth must be positive"),
        ([*LAYER, NO_MODELS, "flow.rayleigh=0"], "rayleigh must be positive"),
        ([*LAYER, NO_MODELS, "flow.prandtl=-1"], "prandtl must be positive"),
        ([*LAYER, NO_MODELS, "flow.noise=0"], "noise must be positive"),
        ([*LAYER, NO_MODELS, "grid.length=1.0"], "grid.length must be [2, ...]: the layer and its mirror image"),
        (
            LAYER,
            "models.small-d4: group 'D4' is not a symmetry of this box with plates; "
            "choose one of C1, C2, D1, D1y, D2",
        ),
    ],
)  # fmt: skip
def test_bad_value_of_a_flow(toml, overrides, said):
    message = refusal(toml, *overrides)
    assert said in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize("overrides", [TRACER, STIRRED, [*SHEAR], CONVECTION, [*LAYER, NO_MODELS]])
def test_the_flows_that_those_are_made_bad_from_are_good(toml, overrides):
    assert Experiment.read(toml, overrides).build_flow().kind


def test_parameters_that_differ_between_trajectories(toml):
    """Lists in turn, by number; ranges by seed, whatever the other trajectories and parameters are."""
    tree = ["flow.viscosity=[1e-2, 2e-2, 3e-2]", "flow.rms={low = 1.0, high = 9.0}",
            "flow.drag={low = 1e-3, high = 1e-1, distribution = 'log-uniform'}"]  # fmt: skip
    experiment = Experiment.read(toml, tree)
    flows = experiment.flows("train", range(600))
    assert [flow.viscosity for flow in flows[:4]] == [1e-2, 2e-2, 3e-2, 1e-2]
    rms, drag = (np.array([getattr(flow, name) for flow in flows]) for name in ("rms", "drag"))
    assert stats(rms) == pytest.approx([1.0, 5.0, 9.0], abs=0.4)
    assert stats(np.log10(drag)) == pytest.approx([-3, -2, -1], abs=0.1)
    assert abs(np.corrcoef(rms, np.log(drag))[0, 1]) < 0.1
    assert abs(np.corrcoef(rms, [flow.rms for flow in experiment.flows("test", range(600))])[0, 1]) < 0.1
    alone = Experiment.read(toml, [tree[1]])
    assert [flow.rms for flow in alone.flows("train", [7, 3])] == [rms[7], rms[3]]
    assert [field.name for field in experiment.spec.inputs] == ["viscosity", "drag"]
    assert [field.name for field in alone.spec.inputs] == []
    assert Experiment.from_tree(experiment.tree()) == experiment


def stats(values):
    return [values.min(), np.median(values), values.max()]


def test_a_stratification_that_is_zero_in_some_is_an_input_of_all(toml):
    experiment = Experiment.read(toml, [*CONVECTION, "flow.stratification=[0.0, 1.0]"])
    assert [field.name for field in experiment.spec.inputs] == ["gravity", "mean_gradient"]


@pytest.mark.parametrize(
    ("override", "near"),
    [("tran.steps=3", "train"), ("train.step=3", "steps"), ("flow.viscossity=1.0", "viscosity"),
     ("models.small-d4.grup=C4", "group"), ("grid.lenght=1.0", "length"),
     ("flow.tracer={difusivity = 1.0}", "diffusivity"), ("flow.viscosity={lo = 1.0, high = 2.0}", "low")],
)  # fmt: skip
def test_unknown_key_names_the_nearest(toml, override, near):
    message = refusal(toml, override)
    assert "unknown key" in message
    assert f"did you mean {near!r}?" in message
    assert len(message.splitlines()) <= 3


def test_every_fault_is_said(toml):
    message = refusal(toml, "train.steps=0", "data.train=0")
    assert "train.steps" in message
    assert "data.train" in message


def test_missing_file(tmp_path):
    assert "No such file" in refusal(tmp_path / "nowhere.toml")


def test_broken_toml_says_line_and_column(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text('name = "x"\n[grid\nn = 16\n')
    assert "line 2, column 6" in refusal(path)


def test_binary_file(tmp_path):
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refusal(path)


def test_missing_keys(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text('name = "x"\n[grid]\nn = 16\n')
    message = refusal(path)
    assert all(f"{key} is missing" in message for key in ("flow", "data"))


def test_group_is_checked_against_the_flow(toml):
    """Kolmogorov flow keeps C2 alone, but its forcing is a typed input, which restores D4 to the networks."""
    experiment = Experiment.read(toml, ["flow.kind=kolmogorov", "flow.spin_up=0"])
    assert [field.name for field in experiment.spec.inputs] == ["forcing"]
    assert experiment.build_flow().group.name == "C2"
    unforced = Experiment.read(toml).spec
    with pytest.raises(ValueError, match="not a symmetry of the flow 'kolmogorov'; choose one of"):
        check_groups(experiment, experiment.models["small-d4"].groups(), unforced)


def test_a_byte_order_mark_is_skipped(toml):
    before = Experiment.read(toml)
    toml.write_bytes(b"\xef\xbb\xbf" + toml.read_bytes())
    assert Experiment.read(toml) == before
    toml.write_text(toml.read_text(encoding="utf-8-sig"), encoding="utf-16")
    with pytest.raises(UsageError, match="not a text file in UTF-8; save it in this encoding"):
        Experiment.read(toml)


def test_many_faults_and_long_values_are_said_briefly(toml):
    said = refusal(toml, *(f"grid.key{i}=1" for i in range(9)), f"name={'é' * 5000!r}", "data.train='\\u001b[31m'")
    assert len(said.splitlines()) <= 11
    assert said.endswith("and 6 more errors")
    assert len(said) < 3000
    toml.write_text("a = " + "[" * 100_000)
    assert "not valid TOML" in refusal(toml)


def test_the_velocity_beside_the_vorticity(toml):
    """Taken where it is not in the state already; refused where there is no vorticity to have it from."""
    names = [field.name for field in network_fields(toml)]
    assert names[0] == "vorticity"
    assert names[-1] == "velocity"
    assert [field.name for field in network_fields(toml, "models.small-d4.velocity=false")] == names[:-1]
    assert "velocity" not in [field.name for field in network_fields(toml, "data.state=velocity")][1:]
    said = refusal(toml, "data.state=velocity", "models.small-d4.velocity=true")
    assert "models.small-d4: velocity = true needs a state of vorticity in two dimensions, without velocity" in said


def network_fields(toml, *overrides):
    experiment = Experiment.read(toml, overrides)
    return experiment.models["small-d4"].fields_in(experiment.spec)
