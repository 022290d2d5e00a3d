"""The card of weights as the Hugging Face Hub wants it: with a block of metadata, by which models are found there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from src.models.origin import DATA_TERMS, RESEARCH
from src.models.spec import ModelSpec
from src.runs.finished import Run

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-classification"
# Of the Hub's own licenses none is that of the data: https://huggingface.co/docs/hub/repositories-licenses.
LICENSE_NAMES = {DATA_TERMS: "terms-of-the-training-data", RESEARCH: "research-use"}
# By their names in `metrics.json`: the Hub's name of the metric, what is shown, and its arguments.
METRICS = {
    "accuracy": ("accuracy", "Accuracy", None),
    "f1_macro": ("f1", "Macro F1", {"average": "macro"}),
    "f1_weighted": ("f1", "Weighted F1", {"average": "weighted"}),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy", None),
}
_FINGERPRINT = re.compile(r"-[0-9a-f]{16}\b.*")
_NAME = re.compile(r"[\w.-]+")

LOADING = """
## Load

With EmoNet-FER and its extra `hub`:

    python -m src.predict ckpt_path=hf://{repo} input=holiday.jpg

or, in Python, `EmotionPredictor.from_pretrained("{repo}")`.
"""


def hub_card(repo: str, name: str, text: str, spec: ModelSpec, runs: Sequence[Run], license_file: str) -> str:
    """Return the README.md of a repository.

    Args:
        repo: The repository, `owner/name`.
        name: The weights' name.
        text: The card, as `src.reports.model_card` wrote it.
        spec: What the weights are.
        runs: Evaluations of them.
        license_file: File of the repository with the terms of use.
    """
    from huggingface_hub import ModelCardData

    others = (*spec.origin.ancestors, *spec.origin.teachers) if spec.origin else ()
    trained_on = [spec.trained_on, *(weights.trained_on for weights in others)]
    names = [_FINGERPRINT.sub("", data) for data in trained_on]
    data = ModelCardData(
        license="other",
        license_name=LICENSE_NAMES[spec.license],
        license_link=license_file,
        library_name="emonet-fer",
        pipeline_tag=TASK,
        tags=["emonet", "facial-expression-recognition"],
        datasets=[data for data in dict.fromkeys(names) if _NAME.fullmatch(data)] or None,
        metrics=list(dict.fromkeys(metric for metric, _, _ in METRICS.values())),
        model_name=name,
        eval_results=[result for run in runs for result in _results(run)],
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text.rstrip()}\n{LOADING.format(repo=repo)}"


def _results(run: Run) -> list[EvalResult]:
    """Return the numbers of one evaluation, on all images and on those without a duplicate elsewhere."""
    from huggingface_hub import EvalResult

    tta = str(run.config.get("tta", "none"))
    views = [] if tta == "none" else [f"tta={tta}"]
    results = []
    for name, images in ((run.split, []), (f"{run.split}_dedup", ["without duplicates"])):
        for key, (metric, shown, arguments) in METRICS.items():
            value = run.metrics.get(f"{name}/{key}")
            if value is not None:
                result = EvalResult(
                    task_type=TASK,
                    dataset_type=run.data_name,
                    dataset_name=run.data_name,
                    # What tells evaluations on one split apart; the Hub knows no other place for it.
                    dataset_config=", ".join([*images, *views]) or None,
                    dataset_split=run.split,
                    metric_type=metric,
                    metric_name=shown,
                    metric_args=arguments,
                    metric_value=value,
                )
                results.append(result)
    return results
