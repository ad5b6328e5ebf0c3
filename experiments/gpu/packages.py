"""Which packages a machine without a registry lacks, and wheels that are carried there instead of installed."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# By the name to import, that of the package to download.
SOLVER = {"torch": "torch", "numpy": "numpy"}
PACKAGE = {
    **SOLVER, "xarray": "xarray", "pandas": "pandas", "scipy": "scipy", "matplotlib": "matplotlib", "h5py": "h5py",
    "h5netcdf": "h5netcdf",
    "accelerate": "accelerate", "safetensors": "safetensors", "huggingface_hub": "huggingface_hub", "psutil": "psutil",
    "tqdm": "tqdm", "filelock": "filelock", "jaxtyping": "jaxtyping", "wadler_lindig": "wadler-lindig",
    "pydantic": "pydantic", "pydantic_core": "pydantic-core", "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection", "typing_extensions": "typing-extensions",
    "zarr": "zarr", "numcodecs": "numcodecs", "donfig": "donfig", "google_crc32c": "google-crc32c", "yaml": "pyyaml",
    "packaging": "packaging", "netCDF4": "netCDF4", "cftime": "cftime", "certifi": "certifi",
    "dask": "dask", "partd": "partd", "locket": "locket", "toolz": "toolz", "cloudpickle": "cloudpickle",
    "click": "click", "fsspec": "fsspec", "scoringrules": "scoringrules",
    "jinja2": "jinja2", "markupsafe": "markupsafe", "plotly": "plotly", "narwhals": "narwhals",
}  # fmt: skip
TESTS = {**PACKAGE, "pytest": "pytest", "beartype": "beartype", "e3nn": "e3nn", "opt_einsum_fx": "opt-einsum-fx"}


def missing(needed: dict[str, str]) -> list[str]:
    """The packages that cannot be imported here, by the names to download."""
    return [package for module, package in needed.items() if importlib.util.find_spec(module) is None]


def how_to_carry(packages: list[str]) -> str:
    """What to run on a machine with a registry."""
    version = "{}.{}".format(*sys.version_info)
    return (
        f"pip download --no-deps --only-binary=:all: --python-version {version} --platform manylinux_2_28_x86_64 "
        f"--platform manylinux2014_x86_64 -d wheels {' '.join(packages)}"
    )


def unpack(wheels: Path, folder: Path) -> list[str]:
    """Unpack the wheels that fit this Python into a folder for its path, and return the names of those that do not fit.

    A wheel is a zip of what goes on the path (PEP 427). What a project puts elsewhere, such as programs, is left out.
    """
    from packaging.tags import sys_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    supported, refused = set(sys_tags()), []
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(wheels.glob("*.whl")):
        try:
            fits = not supported.isdisjoint(parse_wheel_filename(path.name)[3])
        except InvalidWheelFilename:
            fits = False
        if not fits:
            refused.append(path.name)
            continue
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        for place in folder.glob("*.data"):
            for inner in (place / "purelib", place / "platlib"):
                if inner.is_dir():
                    shutil.copytree(inner, folder, dirs_exist_ok=True)
            shutil.rmtree(place)
    return refused


def state_version(folder: Path) -> None:
    """Say in a folder of Python's path which version of the package this checkout is, as installing it would."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (about / "METADATA").write_text(metadata, encoding="utf-8")
