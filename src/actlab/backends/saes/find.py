"""Find the SAEs that a user names, and lend their encoders."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from actlab.backends.devices import device_errors
from actlab.backends.hub import fetch_folder, refuse_changed
from actlab.backends.saes.families import FAMILIES
from actlab.backends.saes.sae import Encoder, SaeFacts, make_encoder
from actlab.ground.errors import ConfigError, ModelError
from actlab.ground.log import log
from actlab.ground.options import as_path

_ON_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*/[\w-][\w./-]*")
"""owner/repository/folder: whole repositories of SAEs hold hundreds of gigabytes."""


def find_saes(names: Sequence[str], *, input_scale: float | None = None) -> list[SaeFacts]:
    """Return the SAEs in the folders named, and below them, by layer and average L0.

    Raises:
        ConfigError: A folder is not there, holds none, or one that several families recognise.
        ModelError: One is damaged or cannot be read by actlab.
    """
    found: dict[Path, SaeFacts] = {}
    for name in names:
        inside = list(_saes_in(_place(name)))
        if not inside:
            raise ConfigError(
                f"{name} holds no SAE of a family that is known ({', '.join(FAMILIES.names)})",
                hint="; ".join(family.hint for family in FAMILIES),
            )
        found |= {sae.path.resolve(): _scaled(sae, input_scale) for sae in inside}
    saes = sorted(found.values(), key=lambda sae: (sae.layer, sae.average_l0, str(sae.path)))
    for one, other in itertools.pairwise(saes):
        if (one.layer, one.average_l0) == (other.layer, other.average_l0):
            raise ConfigError(
                f"two SAEs of layer {one.layer} have average_l0 {one.average_l0}: {one.path} and {other.path}",
                hint="name the folder of one of them",
            )
    if input_scale is not None and not any(sae.input_norm == "expected_average_only_in" for sae in saes):
        raise ConfigError(
            "--input-scale is for SAEs of normalize_activations expected_average_only_in, and none is",
            hint="leave --input-scale away",
        )
    return saes


def _place(name: str) -> Path:
    """Return a local folder, or the snapshot of one on the hub."""
    folder: Path = as_path(name)
    if not folder.exists() and (not _ON_HUB.fullmatch(name) or ".." in name.split("/")):
        raise ConfigError(
            f"there is no folder {name}",
            hint="give --sae a folder with SAEs in it, or one on the hub: owner/repository/folder",
        )
    return folder if folder.exists() else fetch_folder(name)


def _saes_in(place: Path) -> Iterator[SaeFacts]:
    """Read the SAEs of a folder and of those below it, or the one that a file is of."""
    for folder in sorted(place.glob("**/")) if place.is_dir() else [place.parent]:
        families = [family for family in FAMILIES if family.recognises(folder)]
        if "embedding" in folder.parts[len(place.parts) :] or not families:
            continue
        if len(families) > 1:
            raise ConfigError(
                f"{folder} is of several SAE families: {' and '.join(family.name for family in families)}",
                hint="give each SAE a folder of its own",
            )
        sae = dataclasses.replace(families[0].read(folder), family=families[0].name)
        if place.is_dir() or place in sae.files:
            yield sae


def _scaled(sae: SaeFacts, input_scale: float | None) -> SaeFacts:
    """Put the user's factor in where the folder lacks it."""
    if sae.input_norm != "expected_average_only_in":
        return sae
    if input_scale is None:
        raise ModelError(
            f"{sae.path}: its inputs are to be multiplied by a factor that is not in the folder",
            hint="give --input-scale: sqrt(d_in) over the mean norm of the activations it was trained on",
        )
    return dataclasses.replace(sae, input_scale=input_scale)


def weights_of(sae: SaeFacts) -> Callable[[str], Tensor]:
    """Return what reads one weight of an SAE, by SAELens' name."""
    return FAMILIES[sae.family].weights(sae)


class Encoders:
    """Lends encoders: all are kept where memory allows, else one at a time."""

    def __init__(self, saes: Sequence[SaeFacts], device: torch.device) -> None:
        self._device = device
        self._keep = sum(sae.bytes_of_encoder for sae in saes) <= 0.4 * _bytes_free(device)
        self._loaded: dict[Path, Encoder] = {}
        if not self._keep:
            log.info("memory is short: %d SAEs are loaded one after the other for each unit", len(saes))

    def get(self, sae: SaeFacts) -> Encoder:
        """Return an SAE's encoder, loaded now if it is not there.

        Raises:
            ModelError: Its weights are damaged, do not fit together, or changed after they were hashed for the plan.
        """
        if sae.path not in self._loaded:
            if not self._keep:
                self._loaded.clear()
            with device_errors(self._device, if_out_of_memory="choose fewer SAEs with --layers, or use --device cpu"):
                encoder = make_encoder(sae, weights_of(sae), self._device)
            refuse_changed(sae.hashed)
            self._loaded[sae.path] = encoder
        return self._loaded[sae.path]


def _bytes_free(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device.index)[0]  # torch 2.4 takes no "cuda" without a number
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):  # not told on this system
        return 4 << 30
