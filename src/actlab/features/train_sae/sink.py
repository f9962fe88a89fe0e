"""Which files an SAE becomes, and what a finished folder adds to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from safetensors.torch import save

from actlab.backends.saes import saelens
from actlab.features.train_sae.compute import Draw, Step, Trained
from actlab.features.train_sae.config import TrainSaeConfig
from actlab.ground.made_on import made_on
from actlab.ground.manifest import METADATA, Environment, to_json
from actlab.ground.storage import FORMAT_VERSION, Finish, NewFile, Staging

KIND = "saes"


class LayerRecord(TypedDict):
    """What the completion record of a layer's unit says besides its files."""

    environment: Environment
    layer: int
    last: dict[str, float]
    curve: list[list[float]]
    """By step that was kept, the numbers of a `Step`."""


def folder_of(layer: int) -> str:
    """Return the name of a layer's folder.

    >>> folder_of(3)
    'layer_03'
    """
    return f"layer_{layer:02d}"


def sae_files(trained: Trained, config: TrainSaeConfig, layer: int, about: dict[str, object]) -> list[NewFile]:
    """Return an SAE's folder in SAELens' format; `about` goes into its config's metadata."""
    of_k = {"k": config.k, "rescale_acts_by_decoder_norm": False} if config.architecture == "topk" else {}
    content = {
        "architecture": config.architecture,
        "d_in": len(trained.weights["b_dec"]),
        "d_sae": config.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": saelens.VERSION,
            "sae_lens_training_version": None,
            **about,
            "average_l0": max(1, round(config.k if of_k else trained.last.l0)),
            "explained_variance": round(trained.last.explained_variance, 3),
            "trained_by": "actlab train-sae",
        },
        **of_k,
    }
    return [
        NewFile(f"{folder_of(layer)}/{saelens.WEIGHTS}", save(trained.weights)),
        NewFile(f"{folder_of(layer)}/{saelens.FILE}", to_json(content)),
    ]


@contextmanager
def curves(folder: Path) -> Iterator[Draw]:
    """Lend a function that draws a step's numbers in TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def draw(number: int, step: Step) -> None:
            for name, value in step._asdict().items():
                writer.add_scalar(name, value, number)

        yield draw


def finish(staging: Staging) -> Finish:
    """Return the folder's metadata: what each SAE came to, and its curve."""
    identity = staging.plan.identity
    records = list(staging.records_as(LayerRecord))
    metadata = {
        **{key: identity[key] for key in ("model_name", "architecture", "layers", "n_features", "k")},
        "results": {str(record["layer"]): record["last"] for record in records},
        "curve_columns": list(Step._fields),
        "curves": {str(record["layer"]): record["curve"] for record in records},
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": staging.plan.fingerprint,
    }
    return Finish([], {METADATA: metadata}, {"made_on": made_on(record["environment"] for record in records)})
