"""`compute-features`, `generate-datasets`, `sweep-datasets` and `train-sae` on the command line."""

import sys
from typing import TYPE_CHECKING

from actlab.cli.common import EXIT_DROPPED, echo, format_bytes, log, print_json, print_plan, set_loudness
from actlab.features.datasets.config import DatasetConfig
from actlab.features.encode.config import EncodeConfig
from actlab.features.sweep.config import SweepConfig
from actlab.features.train_sae.config import TrainSaeConfig
from actlab.ground.options import command

if TYPE_CHECKING:
    from actlab.features.datasets.run import Generated
    from actlab.features.encode.run import Planned
    from actlab.features.train_sae.run import PlannedSaes


@command("compute-features", EncodeConfig)
def compute(config: EncodeConfig) -> None:
    """Encode sentences with a model's SAEs: one file a sentence, one row a token.

    The input is a CSV with sentence,concept_strength_label. One forward pass serves all layers. Run it again
    after any interruption: it goes on where it stopped, and the bytes are the same.

    \b
    actlab compute-features --input sentences.csv --model DIR --sae SAES --output DIR
    actlab compute-features --from-hidden DIR --sae OTHER_SAES --output DIR2     no model needed
    """
    from actlab.features.encode.run import compute_features, plan_features

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_features(config), _plan_as_text, as_json=config.json)
        return
    done = compute_features(config)
    if config.json:
        print_json(done)
    elif done.is_sealed:
        echo(str(done.path))
    if not done.is_sealed:
        log.info("%s: this part is done; the last part to finish seals (or: actlab seal)", done.path)
    elif not done.n_sentences:  # an earlier version sealed it
        log.warning("%s: it is empty, every sentence was dropped", done.path)
    if done.n_dropped:
        log.warning("%s: %d sentences dropped, listed in its dropped.jsonl", done.path, done.n_dropped)
        sys.exit(EXIT_DROPPED)


def _plan_as_text(plan: "Planned") -> str:
    return (
        f"{plan.path}\n"
        f"  {plan.n_units} units, {plan.n_sentences} sentences, {plan.n_rows} rows\n"
        f"  to write about {format_bytes(plan.bytes_dense)} with --storage dense, "
        f"{format_bytes(plan.bytes_sparse)} with sparse; {format_bytes(plan.bytes_free)} free\n"
        f"  about {format_bytes(plan.bytes_of_memory)} of memory besides the model's"
    )


@command("train-sae", TrainSaeConfig)
def train(config: TrainSaeConfig) -> None:
    """Train a small SAE a layer on the residual stream, so that the chain runs offline.

    Saved in SAELens' format, layer_03/cfg.json and sae_weights.safetensors. For SAEs to publish, use SAELens.

    \b
    actlab train-sae --input texts.jsonl --layers 2,4 --output SAES
    tensorboard --logdir SAES.tensorboard
    """
    from actlab.features.train_sae.run import plan_sae_training, train_sae

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_sae_training(config), _sae_plan_as_text, as_json=config.json)
        return
    done = train_sae(config)
    if config.json:
        print_json(done)
    elif done.is_sealed:
        echo(str(done.path))
    if not done.is_sealed:
        log.info("%s: this part is done; the last part to finish seals", done.path)


def _sae_plan_as_text(plan: "PlannedSaes") -> str:
    return (
        f"{plan.path}\n"
        f"  {len(plan.layers)} layers, {plan.n_steps} steps each, on {plan.n_tokens} tokens of {plan.n_texts} texts\n"
        f"  {format_bytes(plan.bytes_to_write)} to write"
    )


@command("generate-datasets", DatasetConfig)
def generate(config: DatasetConfig) -> None:
    """Make classifier datasets (X, y) from sentence feature files.

    Only the rows and features asked for are read. One NPZ with X, y, meta_* and norm_*.

    \b
    embedding-to-feature   X: embeddings              y: an SAE feature (--target-layer, --target-feature)
    hidden-to-feature      X: hidden states           y: an SAE feature (--target-layer, --target-feature)
    hidden-to-concept      X: hidden states           y: the label      (--layer or --layers)
    feature-to-concept     X: SAE features            y: the label      (--target-layer, --target-features)

    \b
    actlab generate-datasets --strategy hidden-to-concept --input DIR --layers 0-5 --output d.npz
    actlab generate-datasets --strategy hidden-to-feature --input DIR --features-from ranked_features.csv \\
        --top 5 --output 'd_h{layer}_to_f{feature}.npz'
    """
    from actlab.features.datasets.run import generate_datasets

    set_loudness(config.quiet)
    _report(generate_datasets(config), as_json=config.json, dry_run=config.dry_run)


@command("sweep-datasets", SweepConfig)
def sweep(config: SweepConfig) -> None:
    """Make many classifier datasets, reading each folder's files once.

    Every strategy with each of its layers or targets, in every normalisation. configs/workflow_*.yaml are
    sweeps with the layers of a model of 26 blocks.

    \b
    actlab sweep-datasets --input DIR --strategy hidden-to-concept --layers 1 --layers 3,5 --output '{name}.npz'
    actlab sweep-datasets --config-path configs/workflow_2_layers.yaml --input DIR
    """
    from actlab.features.sweep.run import sweep_datasets

    set_loudness(config.quiet)
    _report(sweep_datasets(config), as_json=config.json, dry_run=config.dry_run)


def _report(generated: "list[Generated]", *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json(generated)
    for one in generated if not as_json else ():
        sizes = f": {one.n_samples} samples, {one.n_columns} columns"
        echo(f"{one.path}{sizes}" if dry_run else str(one.path))
    n_dropped = max((one.n_dropped for one in generated), default=0)
    if n_dropped and not dry_run:
        log.warning("%d sentence files left out, listed in meta_manifest", n_dropped)
        sys.exit(EXIT_DROPPED)
