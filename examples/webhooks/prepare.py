"""Turns the package of webhook examples into one file a payload, an index, and what the dataset says must come out.

Usage: prepare.py INDEX_JSON DIRECTORY

Writes DIRECTORY/payloads/NNN.json, DIRECTORY/index.tsv (delivery id, event, file) and DIRECTORY/expected.tsv (delivery
id, event, bytes, CRC-32). The expectations are computed here, from the dataset alone: libmq has no part in them.
"""

import json
import pathlib
import sys
import zlib


def main(source: str, directory: str) -> None:
    out = pathlib.Path(directory)
    payloads = out / "payloads"
    payloads.mkdir(parents=True, exist_ok=True)
    events = json.loads(pathlib.Path(source).read_bytes())
    index, expected = [], []
    for event in events:
        for number, payload in enumerate(event["examples"], start=1):
            body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
            file = payloads / f"{len(index):03}.json"
            file.write_bytes(body)
            delivery = f"{event['name']}-{number}"
            index.append(f"{delivery}\t{event['name']}\t{file}\n")
            expected.append(f"{delivery}\t{event['name']}\t{len(body)}\t{zlib.crc32(body):08x}\n")
    (out / "expected.tsv").write_text("".join(expected))
    (out / "index.tsv").write_text("".join(index))
    print(f"dataset: {len(index)} payloads of {len(events)} kinds of events")


if __name__ == "__main__":
    main(*sys.argv[1:])
