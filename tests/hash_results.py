"""Hash the values of every array that a run left: data, weights, forecasts, scores. Names and attributes do not count.

    python tests/hash_results.py runs/miniature

Two runs print the same lines where their results are the same to the bit. Timings are left out.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import xarray as xr
from safetensors.numpy import load_file


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b" ".join(parts)).hexdigest()[:16]


def digest_of_array(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    return digest(f"{array.dtype.str} {array.shape}".encode(), array.tobytes())


def arrays_of_dataset(path: Path) -> list[np.ndarray]:
    options = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
    with xr.open_dataset(path, decode_timedelta=False, **options) as dataset:
        numbers = {name: v for name, v in dataset.variables.items() if v.dtype.kind in "fiub"}
        return [v.values for name, v in numbers.items() if "seconds" not in str(name)]


def hashes(folder: Path) -> dict[str, str]:
    """A hash of the values in each file; their order does not count, so that names may change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".nc", ".zarr"):
            each = map(digest_of_array, arrays_of_dataset(path))
        elif path.suffix == ".safetensors":
            each = map(digest_of_array, load_file(path).values())
        elif path.name == "curve.csv":
            each = [digest(path.read_bytes())]
        else:
            continue
        found[path.relative_to(folder).as_posix()] = digest(*(one.encode() for one in sorted(each)))
    return found


if __name__ == "__main__":
    for name, value in hashes(Path(sys.argv[1])).items():
        sys.stdout.write(f"{value} {name}\n")
