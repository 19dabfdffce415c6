"""Holds the ledger against the dataset: each delivery exactly once, with its event and its bytes.

Usage: check.py EXPECTED_TSV LEDGER_TSV

Prints one row a route, and ends with status 1 if a delivery is lost, counted twice, changed, or was never sent.
"""

import collections
import pathlib
import sys

Row = collections.namedtuple("Row", "delivery event size crc")


def read(path: str) -> list[list[str]]:
    return [line.split("\t") for line in pathlib.Path(path).read_text().splitlines()]


def main(expected_path: str, ledger_path: str) -> int:
    expected = {row.delivery: row for row in (Row(*fields) for fields in read(expected_path))}
    routes = {}
    seen = collections.defaultdict(list)
    for route, *fields in read(ledger_path):
        row = Row(*fields)
        seen[row.delivery].append(row)
        routes[row.event] = route

    columns = ("dataset", "ledger", "lost", "twice", "changed")
    table = collections.defaultdict(lambda: dict.fromkeys(columns, 0))
    complaints = []
    for delivery, row in expected.items():
        found = seen.get(delivery, [])
        counts = table[routes.get(row.event, "(no route)")]
        counts["dataset"] += 1
        counts["ledger"] += len(found)
        if not found:
            counts["lost"] += 1
            complaints.append(f"lost: {delivery}")
        if len(found) > 1:
            counts["twice"] += 1
            complaints.append(f"counted {len(found)} times: {delivery}")
        if any(line != row for line in found):
            counts["changed"] += 1
            complaints.append(f"changed on the way: {delivery}")
    for delivery in seen.keys() - expected.keys():
        complaints.append(f"never sent: {delivery}")

    total = {column: sum(counts[column] for counts in table.values()) for column in columns}
    print(f"{'route':<12}" + "".join(f"{column:>9}" for column in columns))
    for name, counts in [*sorted(table.items()), ("total", total)]:
        print(f"{name:<12}" + "".join(f"{counts[column]:>9}" for column in columns))

    for complaint in complaints[:20]:
        print(complaint)
    if complaints or not expected:
        print(f"\nFAILED: {len(complaints)} deliveries are not as the dataset has them")
        return 1
    print(f"\nOK: {len(expected)} payloads went in, each is in the ledger once, byte for byte")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
