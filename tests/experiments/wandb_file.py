"""Reads an offline W&B file: a header of 7 bytes, then records in LevelDB's log format."""

import json
import struct
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7


def history(file: Path) -> list[dict]:
    """What was logged, row by row."""
    rows = []
    for data in _records(file.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def records(file: Path, kind: str) -> list:
    """All records of one kind, such as "metric", "alert", "preempting" or "artifact"."""
    found = [Record.FromString(data) for data in _records(file.read_bytes())]
    return [getattr(record, kind) for record in found if record.WhichOneof("record_type") == kind]


def requests(file: Path, kind: str) -> list:
    """All requests of one kind, such as "log_artifact"."""
    return [getattr(request, kind) for request in records(file, "request") if request.WhichOneof("request_type") == kind]


def _records(data: bytes):
    at, parts = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + HEADER])
        if at + HEADER + length > len(data):  # it is still being written
            return
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or its last part
            yield parts
            parts = b""
