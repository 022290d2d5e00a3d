"""The records of an offline run of Weights & Biases, read without wandb's own reader.

A `.wandb` file is a LevelDB log: blocks of 32 KiB that hold records of a checksum (4 bytes), a length (2) and a kind (1
for whole; 2, 3, 4 for the first, a middle, the last part). Seven bytes of its own come first.
"""

import json
import struct
from pathlib import Path

from wandb.proto import wandb_internal_pb2

HEADER = b":W&B"
START, BLOCK, FRAME = 7, 32768, 7
WHOLE, FIRST, LAST = 1, 2, 4


def read_records(path):
    """Yield the protocol buffers of a file; what a killed process left half-written ends it."""
    content = Path(path).read_bytes()
    assert content.startswith(HEADER)
    at, parts = START, []
    while at + FRAME <= len(content):
        left = BLOCK - at % BLOCK
        if left < FRAME:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts.append(content[at + FRAME : at + FRAME + length])
        at += FRAME + length
        assert kind in range(WHOLE, LAST + 1)
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


class OfflineRun:
    """What an offline run has recorded.

    Attributes:
        run: The run itself: id, project, group, job type, tags.
        config: Its configuration.
        history: A dictionary per step, nested keys joined by dots.
        summary: Last value of each key of the summary, likewise.
        metrics: Definitions of metrics by name.
        exit_code: How it ended, or None.
        artifacts: Artifacts that it logged.
        environment: Machine and code.
    """

    def __init__(self, folder):
        """Read the file of a folder `offline-run-...`."""
        (file,) = Path(folder).glob("*.wandb")
        self.config, self.history, self.summary, self.metrics = {}, [], {}, {}
        self.artifacts, self.exit_code, self.run = [], None, None
        self.environment = wandb_internal_pb2.EnvironmentRecord()
        for record in read_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self._configure(record.run.config)
            elif kind == "config":
                self._configure(record.config)
            elif kind == "history":
                self.history.append({_name(item): json.loads(item.value_json) for item in record.history.item})
            elif kind == "summary":
                self.summary |= {_name(item): json.loads(item.value_json) for item in record.summary.update}
            elif kind == "metric":
                self.metrics[record.metric.name or record.metric.glob_name] = record.metric
            elif kind == "exit":
                self.exit_code = record.exit.exit_code
            elif kind == "artifact":
                self.artifacts.append(record.artifact)
            elif kind == "environment":
                self.environment.MergeFrom(record.environment)

    def _configure(self, config):
        self.config |= {_name(item): json.loads(item.value_json) for item in config.update}


def _name(item):
    return item.key or ".".join(item.nested_key)
