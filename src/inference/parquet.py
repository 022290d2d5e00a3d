"""Rows of a table as Parquet; needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.data.readers.file_tree import printable
from src.utils.extras import require_extra

# Rows that are kept until they are written together.
ROWS_AT_ONCE = 10_000
TEXTS = ("source", "quality", "prediction")
NUMBERS = ("frame", "track", "face")


class ParquetRows:
    """A Parquet file, which can be read once it is closed."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Open the file.

        Args:
            path: File to write.
            columns: Names of the columns; what is neither text nor a whole number is a double.

        Raises:
            ConfigError: If pyarrow is not installed.
        """
        require_extra("parquet")
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {**dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(NUMBERS, pa.int64())}
        self._schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        """Add a row; a name that is no text is escaped."""
        self._rows.append({**row, "source": printable(row["source"])})
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left, and end the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()
