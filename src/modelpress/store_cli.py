"""``modelpress store ls | gc``: look after the disk."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

from modelpress.errors import ModelPressError
from modelpress.store import RECORD, Entry, Store, clear, read


@dataclass(frozen=True)
class Usage:
    """One entry with what it occupies."""

    entry: Entry
    size_mb: float
    idle_days: float


def usage(store: Store) -> list[Usage]:
    """Every finished entry, least recently used first."""
    rows = [_usage(path.parent) for path in (store.root / "entries").glob(f"*/{RECORD}")]
    return sorted(rows, key=lambda row: -row.idle_days)


def _usage(folder: Path) -> Usage:
    entry = read(folder)
    size = sum(int(facts["bytes"]) for facts in entry.files.values())
    return Usage(entry, size / 1e6, (time.time() - (folder / RECORD).stat().st_mtime) / 86400)


def collect(store: Store, *, older_than_days: float | None, max_gb: float | None) -> list[Usage]:
    """The entries that ``gc`` removes: idle for too long, or the least recently used beyond the size limit."""
    rows, doomed = usage(store), []
    total = sum(row.size_mb for row in rows)
    for row in rows:
        too_old = older_than_days is not None and row.idle_days > older_than_days
        too_big = max_gb is not None and total > max_gb * 1e3
        if too_old or too_big:
            doomed.append(row)
            total -= row.size_mb
    return doomed


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress store``."""
    parser = subparsers.add_parser("store", help="list or clean the store of finished stages", description=__doc__)
    parser.add_argument("action", choices=("ls", "gc"))
    default = os.environ.get("MODELPRESS_STORE", "outputs/.store")
    parser.add_argument("--store", default=default, help="its folder (default: %(default)s)")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="gc: entries not used for so many days")
    parser.add_argument("--max-gb", type=float, help="gc: keep the most recently used entries up to this size")
    parser.add_argument("--dry-run", action="store_true", help="gc: only say what would go")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Run ``modelpress store``."""
    store = Store(args.store)
    if not store.root.is_dir():
        raise ModelPressError(f"There is no store at {store.root}. Name its folder with --store, or make a run first.")
    return _list(store) if args.action == "ls" else _clean(store, args)


def _list(store: Store) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table("key", "kind", "what", "MB", "cost s", "idle days", title=f"{store.root}")
    rows = usage(store)
    for row in rows:
        entry = row.entry
        cells = (
            entry.key[:12],
            entry.kind,
            entry.name,
            f"{row.size_mb:.1f}",
            f"{entry.seconds:.0f}",
            f"{row.idle_days:.1f}",
        )
        table.add_row(*cells)
    table.caption = f"{len(rows)} entries, {sum(row.size_mb for row in rows):.0f} MB"
    Console().print(table)
    return 0


def _clean(store: Store, args: argparse.Namespace) -> int:
    if args.older_than is None and args.max_gb is None:
        raise ModelPressError(
            "`store gc` needs a rule: --older-than DAYS and/or --max-gb GB. Try it with --dry-run first."
        )
    doomed = collect(store, older_than_days=args.older_than, max_gb=args.max_gb)
    verb = "would remove" if args.dry_run else "removed"
    for row in doomed:
        print(f"{verb} {row.entry.key[:12]} {row.entry.name} ({row.size_mb:.1f} MB)")
        if not args.dry_run:
            clear(row.entry.folder)
    leftovers = [path for part in ("work", "damaged") for path in (store.root / part).glob("*")]
    for path in leftovers if not args.dry_run else []:
        if time.time() - path.stat().st_mtime > 7 * 86400:
            clear(path)
    print(f"{len(doomed)} entries, {sum(row.size_mb for row in doomed):.0f} MB")
    return 0
