"""Kinds and ranges of the options of data sets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Interval, Len
from pydantic import StrictBool, StrictInt, StrictStr

from src.utils.validation import Choices, Fraction, ImageSize, Names, Natural, Number, Positive, Rules

# Keys of a data set, or of a part of one, that name a file or a folder.
SOURCES = ("path", "votes_path", "landmarks_path")
Mode = Literal["majority", "soft", "multi"]
Half = Literal["first", "second"]
# Options that are those of the run, given to its data set.
OF_THE_RUN = ("seed", "data_dir", "transform")
RULES: Rules = {
    "data.seed": ("a whole number of 0 or more", Natural),
    "data.data_dir": ("a folder", StrictStr),
    "data.transform": ("keys of conf/transform/, or null", dict[StrictStr, Any] | None),
    "data.path": ("a path", StrictStr | None),
    "data.batch_size": ("a whole number of 1 or more", Positive),
    "data.num_workers": ("a whole number of 0 or more", Natural),
    "data.image_size": ("a multiple of 64, such as 64, 128 or 256", ImageSize | None),
    "data.dedup": ("true or false", StrictBool),
    "data.classes": ("names of classes, such as [happy,sad], or null", Names | None),
    "data.merge": ("names of classes to join, such as {negative: [sad, fear]}, or null", dict[StrictStr, Names] | None),
    "data.exclude": ("names of data sets, such as fer2013 or [fer2013, rafdb], or null", StrictStr | Names | None),
    "data.frames_per_clip": ("a whole number of 1 or more", Positive),
    "data.frame_step": ("a whole number of 1 or more", Positive),
    "data.subject_pattern": ("a regular expression, or null", StrictStr | None),
    "data.votes_path": ("a path", StrictStr | None),
    "data.parts": ("data sets, such as [{name: fer2013, path: ...}, ...]", list[dict[StrictStr, Any]] | None),
    "data.landmarks_path": ("a path", StrictStr | None),
    "data.max_per_class": ("a whole number of 1 or more", Positive | None),
    "data.max_bad": ("a fraction in [0, 1]", Fraction),
    "data.n_train": ("a whole number of 1 or more", Positive),
    "data.n_val": ("a whole number of 1 or more", Positive),
    "data.n_test": ("a whole number of 1 or more", Positive),
    "data.draw_size": ("a whole number of 16 or more", Annotated[StrictInt, Ge(16)]),
    "data.draw_seed": ("a whole number of 0 or more", Natural),
    "data.draw_gray": ("true or false", StrictBool),
    "data.half_seed": ("a whole number of 0 or more", Natural),
    "data.split_seed": ("a whole number of 0 or more", Natural),
    "data.class_folders": (
        "folders' names and their classes, such as {'0': angry}, or null",
        dict[StrictStr | StrictInt, StrictStr] | None,
    ),
    "data.split_shares": ("three fractions, such as [0.8, 0.1, 0.1]", Annotated[list[Fraction], Len(3, 3)]),
    "data.val_share": ("a fraction in (0, 1)", Annotated[Number, Interval(gt=0, lt=1)]),
    "data.cleaned": ("true or false", StrictBool),
}
CHOICES: Choices = {
    "data.mode": get_args(Mode),
    "data.release": ("auto", "csv", "annotations"),
    "data.annotations": ("expression", "valence_arousal"),
    "data.crop": (None, "fer2013", "expw", "landmarks"),
    "data.half": (None, *get_args(Half)),
    "data.sampler": ("shuffle", "balanced"),
}
