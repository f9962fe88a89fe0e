import json
from typing import TYPE_CHECKING, Any

from actlab.cli.common import echo, format_bytes, info, print_plan, set_loudness
from actlab.features.probe.config import ProbeConfig
from actlab.ground import options

if TYPE_CHECKING:
    from actlab.features.probe.run import PlannedProbe


@options.command(ProbeConfig)
def command(config: ProbeConfig) -> None:
    """Reads a classifier dataset, or two activation dumps with one probe a layer. Writes results.json, the
    weights for raw activations (.pt, .safetensors, .json) and plots. Rows of one sentence or prompt, equal rows
    and, where the dataset records them, near-equal texts are never on both sides; dumps hold no texts, so of their
    prompts only equal ones are known. The best layer, or of several datasets the best one, is chosen by
    cross-validation on the training rows.

    \b
    actlab train-probe --input concept.npz --split splits.json --output Probes/concept
    actlab train-probe --input h0.npz --input h6.npz --input h12.npz --output Probes/concept
    actlab train-probe --positive DUMP/EM --negative DUMP/Neutral --output Probes/MODEL
    """
    from actlab.features.probe.run import plan_probe, train_probe

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_probe(config), _as_text, as_json=config.json)
        return
    trained = train_probe(config)
    if config.json:
        echo(json.dumps({"path": str(trained.path), "results": trained.results}, indent=2))
    else:
        echo(str(trained.path))
    info("%s", _summary(trained.results))


def _as_text(plan: "PlannedProbe") -> str:
    layers = f"{len(plan.layers)} layers, " if plan.layers else ""
    lines = [
        str(plan.path),
        f"  {plan.model_type} on {layers}{plan.n_features} features",
        f"  {plan.n_samples} samples in {plan.n_groups} groups: {plan.n_train} to fit on, {plan.n_test} to test on",
        f"  about {format_bytes(plan.bytes_of_memory)} of memory",
        *(f"  note: {note}" for note in plan.notes),
    ]
    return "\n".join(lines)


def _summary(results: dict[str, Any]) -> str:
    """Say the main score with its interval and baselines, of the best layer where there are several."""
    layer = results.get("best_layer")
    shown = results if layer is None else results["layers"][str(layer)]
    key, name = ("test_r2", "R²") if shown["model_type"] == "ridge" else ("test_roc_auc", "AUROC")
    interval = shown[f"{key}_interval"]
    around = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    beside = ", ".join(f"{one.replace('_', ' ')} {_number(of[key])}" for one, of in shown["baselines"].items())
    where = "" if layer is None else f"layer {layer} (the best by its folds): "
    if "chosen" in results:
        place = f"input {results['chosen_index'] + 1} of {len(results['chosen_from'])}"
        where = f"{results['chosen']} ({place}, the best by its folds): "
    leaked = {True: "", False: " (not held out)", None: " (held out: unknown)"}[shown["held_out"]]
    if interval is None and shown.get("no_intervals_because"):
        around = f" (no interval: {shown['no_intervals_because']})"
    return f"{where}test {name} {_number(shown[key])}{around}{leaked}; {beside}"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"
