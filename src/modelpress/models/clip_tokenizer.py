"""open_clip's byte-pair tokenizer written as ``tokenizer.json``, which needs neither open_clip nor torch to be read.

It differs from open_clip's own only where ftfy would repair text that was decoded wrongly ("cafÃ©").
"""

from __future__ import annotations

import gzip
import json
import string
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelpress.data.hashing import file_sha256
from modelpress.errors import ModelPressError, one_of

START, END, PAD = "<start_of_text>", "<end_of_text>", "!"  # PAD: the token of number 0, with which open_clip fills up
MERGES = 49152 - 256 - 2
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CLEANING = ("lower", "canonicalize", "whitespace")
# what ftfy and html.unescape make of single characters; entities twice, as open_clip does
QUOTES = (("[\u02bc\u2018-\u201b]", "'"), ("[\u201c-\u201f]", '"'))
LIGATURES = (
    *(("\ufb00", "ff"), ("\ufb01", "fi"), ("\ufb02", "fl"), ("\ufb03", "ffi"), ("\ufb04", "ffl")),
    *(("\ufb05", "\u017ft"), ("\ufb06", "st"), ("\u0132", "IJ"), ("\u0133", "ij")),
    *(("\u01c4", "D\u017d"), ("\u01c5", "D\u017e"), ("\u01c6", "d\u017e"), ("\u0149", "'n")),
)
ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&apos;", "'"), ("&nbsp;", " "))
CONTROLS = "[\u0000-\u0008\u000b\u000e-\u001f\u007f\u206a-\u206f\ufeff\ufff9-\ufffc]"
FINAL_SIGMA = r"(?<=\p{L})\u03a3(?!\p{L})"  # Python's lower() knows it, the library's does not
WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"\u3000": " "}


def vocabulary_file() -> Path:
    """The merges that open_clip brings. Raises :class:`ModelPressError` if it is not installed."""
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModelPressError("open_clip is not installed: pip install open-clip-torch (or `make setup`).")
    return Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"


def fingerprint() -> str:
    """sha256 of the merges and of this file."""
    return file_sha256(vocabulary_file()) + file_sha256(Path(__file__))


def write(folder: Path, options: Mapping[str, Any]) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` of open_clip's own tokenizer into ``folder``."""
    tokenizer = _tokenizer(_cleaning(options, "lower"))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": START, "eos_token": END, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def clean(folder: Path, options: Mapping[str, Any]) -> None:
    """Make the tokenizer in ``folder`` clean its texts as open_clip's wrapper of Hugging Face tokenizers would."""
    from tokenizers import Tokenizer, normalizers

    how = _cleaning(options, "whitespace")
    if how == "whitespace":
        return
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    steps = [*_steps(how), *([tokenizer.normalizer] if tokenizer.normalizer is not None else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.save(str(folder / "tokenizer.json"))


def _cleaning(options: Mapping[str, Any], default: str) -> str:
    if other := sorted(set(options) - {"clean"}):
        raise ModelPressError(
            f"text_cfg.tokenizer_kwargs has {', '.join(other)}; allowed: clean. Such tokenizers cannot be written as "
            "tokenizer.json: set model.tokenizer to one that does what they do."
        )
    return one_of("text_cfg.tokenizer_kwargs.clean", options.get("clean", default), CLEANING)


def _tokenizer(how: str) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary, merges = _vocabulary()
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(_steps(how))
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    ends = [(token, vocabulary[token]) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (START, END)])
    tokenizer.enable_padding(pad_id=vocabulary[PAD], pad_token=PAD)
    return tokenizer


def _steps(how: str) -> list[Any]:
    """Normalisers that do what open_clip's cleaning function of that name does."""
    from tokenizers import Regex
    from tokenizers.normalizers import NFC, Lowercase, Replace, Strip

    steps: list[Any] = [Replace(Regex(CONTROLS), "")]
    steps += [Replace(text, plain) for text, plain in (*LIGATURES, *WIDE.items())]
    for _ in range(2):
        steps += [Replace("&amp;", "&"), *(Replace(entity, plain) for entity, plain in ENTITIES)]
    steps += [Replace(Regex(marks), plain) for marks, plain in QUOTES]
    steps.append(NFC())
    if how == "canonicalize":
        steps += [Replace("_", " "), Replace(Regex(f"[{_escaped(string.punctuation)}]"), "")]
    if how != "whitespace":
        steps += [Replace(Regex(FINAL_SIGMA), "\u03c2"), Lowercase()]
    return [*steps, Replace(Regex(r"\s+"), " "), Strip()]


def _escaped(characters: str) -> str:
    return "".join(f"\\{character}" for character in characters)


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens by number, and the pairs to merge in their order: bytes, bytes that end a word, merges, the two ends."""
    lines = gzip.decompress(vocabulary_file().read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    letters = _letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def _letters() -> list[str]:
    """A printable character for each of the 256 bytes, in the order of open_clip's vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
