"""Where captioned images come from: a table of paths, webdataset shards, or ``datasets``. Torch-free."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.data import columns
from modelpress.data.hub import choose_splits
from modelpress.data.images import SUFFIXES, Files, Pictures, Pieces
from modelpress.data.reading import find_file, format_of, read_rows
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import datasets
    from PIL.Image import Image

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")  # shards-{0000..0012}.tar
IMAGE_KINDS = tuple(suffix[1:] for suffix in SUFFIXES)


@dataclass
class Found:
    """Pairs as they stand: ``image[i]`` (a number in ``pictures``) is described by ``captions[i]``."""

    pictures: Pictures
    image: list[int] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)  # our names; None: nothing said
    missing: list[str] = field(default_factory=list)  # images and samples that cannot be used, and why


def read_table(path: str, *, image: str, caption: str, split: str | None, root: str | None, **spelling: Any) -> Found:
    """A csv, tsv, parquet or jsonl file with a column of paths (relative to ``root``, or to the file) and captions."""
    file = find_file(path)
    rows = read_rows(file, format_of(file, None), **spelling)
    split = ("split" if "split" in rows.columns else None) if split == "auto" else split
    columns.require(file, rows, {"image": image, "caption": caption, "split": split})
    folder = file.parent if root is None else Path(root).expanduser()
    names, captions = columns.texts(file, rows, image), columns.texts(file, rows, caption)
    splits = columns.split_names(file, rows, split) if split else [None] * len(names)
    numbers: dict[str, int] = {}
    paths: list[Path] = []
    places: list[str] = []
    found = Found(Files(paths, places))
    for row, (name, text, of) in enumerate(zip(names, captions, splits, strict=True)):
        place = f"{file.name}, {rows.place(row)}: {name}"
        if name not in numbers and not (folder / name).is_file():
            found.missing.append(f"{place} does not exist (looked in {folder.absolute()}; dataset.root says where)")
            continue
        if name not in numbers:
            numbers[name] = len(paths)
            paths.append(folder / name)
            places.append(place)
        _add(found, numbers[name], [text], of)
    return found


def _add(found: Found, image: int, captions: Sequence[str], split: str | None) -> None:
    for caption in captions:
        found.image.append(image)
        found.captions.append(caption.strip())
        found.splits.append(split)


def read_shards(path: str, *, caption: str) -> Found:
    """Tar files of webdataset: members of one key are a sample; an image, and ``.txt`` or ``.json`` with ``caption``.

    A ``split`` in the json says where the sample belongs.
    """
    pieces: list[tuple[Path, int, int]] = []
    names: list[str] = []
    found = Found(Pieces(pieces, names))
    for file in shard_files(path):
        for key, members in _samples(file).items():
            image = next((members[kind] for kind in IMAGE_KINDS if kind in members), None)
            text, split = _said(members, caption)
            if image is None or not text:
                found.missing.append(f"{file.name}: sample {key!r} has no {'caption' if image else 'image'}")
                continue
            _add(found, len(pieces), [text], split)
            pieces.append((file, image.start, image.size))
            names.append(f"{file.name}: {key}")
    return found


@dataclass(frozen=True)
class _Member:
    start: int
    size: int
    content: bytes  # of texts; images stay where they are


def _samples(file: Path) -> dict[str, dict[str, _Member]]:
    samples: dict[str, dict[str, _Member]] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")
                if member.isfile() and stem:
                    stream = archive.extractfile(member) if kind.lower() in ("txt", "json") else None
                    content = stream.read() if stream is not None else b""
                    key = f"{folder}/{stem}" if folder else stem
                    samples.setdefault(key, {})[kind.lower()] = _Member(member.offset_data, member.size, content)
    except (tarfile.TarError, OSError) as error:
        raise ModelPressError(f"{file} cannot be read as an uncompressed tar file: {error}") from error
    return samples


def _said(members: Mapping[str, _Member], caption: str) -> tuple[str | None, str | None]:
    """Caption and split of a sample, as far as it says them."""
    try:
        record: Any = json.loads(members["json"].content) if "json" in members else {}
        text = members["txt"].content.decode() if "txt" in members else record.get(caption)
        split = columns.SPLIT_NAMES.get(str(record.get("split", "")).lower())
    except (ValueError, AttributeError):
        return None, None
    return (text.strip() if isinstance(text, str) else None), split


def shard_files(path: str) -> list[Path]:
    """A tar file, all in a folder, a pattern (``shards/*.tar``) or a range (``shards/{0000..0012}.tar``)."""
    place = Path(path).expanduser()
    files = sorted(place.glob("*.tar")) if place.is_dir() else sorted(_matching(str(place)))
    absent = [file for file in files if not file.is_file()]
    if absent or not files:
        raise ModelPressError(
            f"dataset.path {path}: {absent[0] if absent else 'no tar file'} {'does not exist' if absent else 'there'}; "
            "give a tar file, a folder of them, a pattern (shards/*.tar) or a range (shards/{0000..0012}.tar)"
        )
    return files


def _matching(path: str) -> Iterator[Path]:
    if (found := RANGE.search(path)) is None:
        yield from map(Path, glob.glob(path) if glob.has_magic(path) else [path])
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield Path(f"{path[: found.start()]}{number:0{len(first)}d}{path[found.end() :]}")


@dataclass(frozen=True)
class HubImages(Pictures):
    """The image columns of several splits, one after another, opened row by row."""

    parts: Sequence[datasets.Dataset]
    column: str
    names: Sequence[str]  # of all rows
    rows: Sequence[tuple[int, int]]  # part and row

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, number: int) -> str:
        return self.names[number]

    def open(self, number: int) -> Image:
        from PIL import Image

        return Image.open(io.BytesIO(self._bytes(number)))

    def _bytes(self, number: int) -> bytes:
        part, row = self.rows[number]
        value = self.parts[part][row][self.column]
        data: bytes = Path(value["path"]).read_bytes() if value["bytes"] is None else value["bytes"]
        return data

    def content(self, numbers: Iterable[int]) -> list[object]:
        return [hashlib.sha256(self._bytes(number)).hexdigest() for number in numbers]


def read_hub(
    path: str,
    *,
    image: str,
    caption: str,
    splits: Mapping[str, str | None],
    config: str | None,
    revision: str | None,
    data_files: Any,
) -> Found:
    """A dataset of the hub, or a local builder, with a column of images and one of captions (texts or lists)."""
    from datasets import Image as ImageFeature

    from modelpress.data.hub_source import load

    loaded = load(path, config=config, revision=revision, data_files=data_files)
    parts: list[datasets.Dataset] = []
    names: list[str] = []
    rows: list[tuple[int, int]] = []
    found = Found(HubImages(parts, image, names, rows))
    for ours, theirs in choose_splits(path, list(loaded), splits).items():
        where = f"{Path(path).name}[{theirs}]"
        _require(where, loaded[theirs].column_names, {"image": image, "caption": caption})
        part = loaded[theirs].cast_column(image, ImageFeature(decode=False))
        for row, value in enumerate(part[caption]):
            texts = [text for text in ([value] if isinstance(value, str) else value or []) if text and text.strip()]
            if not texts:
                found.missing.append(f"{where}, row {row + 1}: no caption")
                continue
            _add(found, len(rows), texts, ours)
            rows.append((len(parts), row))
            names.append(f"{where}, row {row + 1}")
        parts.append(part)
    return found


def _require(where: str, there: Sequence[str], wanted: Mapping[str, str]) -> None:
    for option, name in wanted.items():
        if name not in there:
            raise ModelPressError(
                f"{where} has no column {name!r}; columns there: {', '.join(map(repr, there))}; choose with "
                f"dataset.{option}=<column>"
            )
