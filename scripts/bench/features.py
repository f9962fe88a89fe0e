"""Picking rows out of sentence files: np.load of every array, then pick, against `generate-datasets`.

60 files of (26, 20, 16384) float32 activations and (26, 20, 2304) hidden states, stored and compressed. Each
way runs in a process of its own, so that peak memory is its own; imports are not timed. Bytes are those asked of
the file system (`rchar` of /proc/self/io). The cache is warm: every file is read once before.

    python scripts/bench/features.py [--rounds 3] [--files 60] [--folder DIR]
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CASES = ("feature", "row of one layer", "rows of six layers")
LAYERS = {"row of one layer": [12], "rows of six layers": [0, 5, 10, 15, 20, 25]}

TIMED = """
import json, os, resource, sys, time
from pathlib import Path
import numpy as np
folder, way, case, layers = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])

if way == "ours":
    from actlab.features.datasets.source import Wanted, read_bank
    from actlab.formats.sentences.folder import load_all_sentences

    def run():
        sentences = load_all_sentences(folder)
        if case == "feature":
            wanted = Wanted(False, (), {12: (1234,)})
        else:
            wanted = Wanted(False, tuple(layers), {})
        bank = read_bank(sentences, wanted, rows="final", on_bad="error", more=lambda n: None)
        return bank.latents[12][:, 0] if case == "feature" else bank.hidden_ncd.reshape(len(bank.labels), -1)
else:
    def run():
        picked = []
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as file:
                arrays = {key: file[key] for key in file.files}
            final = int(np.flatnonzero(arrays["is_final_token"])[0])
            if case == "feature":
                picked.append(arrays["activations"][12, final, 1234])
            else:
                picked.append(arrays["hidden_states"][layers, final].reshape(-1))
        return np.stack(picked)

def bytes_read():
    return int(next(line.split()[1] for line in open("/proc/self/io") if line.startswith("rchar")))

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n_bytes, wall, cpu = bytes_read(), time.perf_counter(), time.process_time()
result = run()
wall, cpu, n_bytes = time.perf_counter() - wall, time.process_time() - cpu, bytes_read() - n_bytes
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"wall": wall, "cpu": cpu, "bytes": n_bytes, "peak_mb": peak / 1024,
                  "sum": float(np.asarray(result, dtype=np.float64).sum())}))
"""


def make_files(folder: Path, n_files: int, *, compressed: bool) -> None:
    """Write sentence files of Gemma-2-2B's shapes, some 70 features firing on a token."""
    folder.mkdir(parents=True)
    save = np.savez_compressed if compressed else np.savez
    n_layers, n_rows, width, n_features = 26, 20, 2304, 16384
    for index in range(n_files):
        rng = np.random.default_rng(index)
        activations = np.zeros((n_layers, n_rows, n_features), np.float32)
        where = rng.integers(0, n_features, (n_layers, n_rows, 70))
        np.put_along_axis(activations, where, rng.exponential(10, where.shape).astype(np.float32), axis=2)
        activations[12, :, 1234] = rng.exponential(10, n_rows)
        save(
            folder / f"sentence_{index + 1:06d}.npz",
            sentence=np.array("a sentence"),
            concept_strength_label=np.array(index % 4),
            sentence_index=np.array(index),
            fragments=np.array(["a"] * n_rows),
            token_positions=np.arange(n_rows),
            is_final_token=np.arange(n_rows) == n_rows - 1,
            fragment_lengths=np.arange(n_rows),
            layers=np.arange(n_layers),
            average_l0s=np.full(n_layers, 70),
            embeddings=rng.standard_normal((n_rows, width)).astype(np.float32),
            hidden_states=rng.standard_normal((n_layers, n_rows, width)).astype(np.float32),
            activations=activations,
        )


def measure(folder: Path, way: str, case: str) -> dict[str, float]:
    """Run one way once, in its own process."""
    arguments = [sys.executable, "-c", TIMED, str(folder), way, case, json.dumps(LAYERS.get(case))]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    root = options.folder or Path(tempfile.mkdtemp(prefix="actlab-bench-"))
    print(f"{options.files} files, medians of {options.rounds} rounds; ratio = ours / plain, median of the rounds'")
    print(
        f"{'files':<12}{'case':<20}{'wall s':>16}{'CPU s':>16}{'MB read':>18}{'peak MB':>14}   ratios wall, CPU, bytes"
    )
    for kind in ("stored", "compressed"):
        folder = root / kind
        if not folder.is_dir():
            make_files(folder, options.files, compressed=kind == "compressed")
        measure(folder, "plain", "feature")  # warms the cache
        for case in CASES:
            rounds = [{way: measure(folder, way, case) for way in ("plain", "ours")} for _ in range(options.rounds)]
            assert all(one["plain"]["sum"] == one["ours"]["sum"] for one in rounds), "the two ways disagree"
            print(line(kind, case, rounds), flush=True)
    if options.folder is None:
        shutil.rmtree(root)


def line(kind: str, case: str, rounds: list[dict[str, dict[str, float]]]) -> str:
    """Return one row of the table: plain / ours."""

    def median(way: str, key: str) -> float:
        return statistics.median(one[way][key] for one in rounds)

    def ratio(key: str) -> float:
        return statistics.median(one["ours"][key] / one["plain"][key] for one in rounds)

    cells = [
        f"{median('plain', key) * scale:.{digits}f} / {median('ours', key) * scale:.{digits}f}"
        for key, scale, digits in (("wall", 1, 3), ("cpu", 1, 3), ("bytes", 1e-6, 1), ("peak_mb", 1, 0))
    ]
    widths = (16, 16, 18, 14)
    shown = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{kind:<12}{case:<20}{shown}   {ratio('wall'):.4f}, {ratio('cpu'):.3f}, {ratio('bytes'):.5f}"


if __name__ == "__main__":
    main()
