"""open_clip's tokenizer as a file, against open_clip itself."""
# ruff: noqa: RUF001  (captions in other scripts are what is tested)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelpress.data.tokenizer import TextTokenizer
from modelpress.errors import ModelPressError
from modelpress.models import clip_tokenizer
from tests import tinyclip

CAPTIONS = [
    "a photo of a cat",
    "A PHOTO, of 2 dogs; they're running!!! (it's 100% true)",
    "  lots   of\twhite\nspace  ",
    "",
    "naïve café, Überraschung, ÅNGSTRÖM, İstanbul",
    "e\u0301 composed and \u00e9, \u1e9b\u0323",
    "smile 😀 family 👨\u200d👩\u200d👧 flag 🇩🇪 heart ❤️ sign ™",
    "日本語のテキスト と 한국어, العربية, עברית, हिन्दी, ไทย",
    "ΟΔΥΣΣΕΥΣ and Σίσυφος, Σ",
    "“curly” ‘quotes’ and ʼtis—dash… ellipsis",
    "fullwidth ＡＢＣ１２３！ and ﬁne ﬂow o\ufb03ce",
    "fish &amp; chips &lt;b&gt; &quot;x&quot; &amp;amp; R&amp;D",
    "snake_case camelCase x=y+1 #hash @name http://a.b/c?d=e",
    "don't we'll I've he'd she's I'm they're DON'T",
    "½ ² ٣ Ⅷ 1st 22nd",
    "control\u0007 chars\u200b zero width \ufeff bom",
    "very " * 90 + "long",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bpe")
    clip_tokenizer.write(made, {})
    return made


def test_ids_equal_those_of_open_clip(folder: Path) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    wanted = SimpleTokenizer()(CAPTIONS, context_length=77).tolist()
    ours = TextTokenizer(folder)
    encoded = ours.encode(CAPTIONS, max_length=77)
    found = [encoded.item(i)[0] for i in range(len(CAPTIONS))]
    padded = [ids + [ours.pad_id] * (77 - len(ids)) for ids in found]
    differing = [text for text, a, b in zip(CAPTIONS, padded, wanted, strict=True) if a != b]
    assert differing == []
    assert encoded.truncated == 1
    assert (ours.vocabulary, ours.pad_id, ours.frame()) == (49408, 0, ([49406], [49407]))


@pytest.mark.parametrize("how", ["canonicalize", "whitespace", "lower"])
def test_cleaning_before_another_tokenizer_is_that_of_open_clip(how: str, tmp_path: Path) -> None:
    from open_clip.tokenizer import get_clean_fn
    from tokenizers import Tokenizer

    tinyclip.write_tokenizer(tmp_path)
    clip_tokenizer.clean(tmp_path, {"clean": how})
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in CAPTIONS:
        if how == "whitespace":
            assert tokenizer.normalizer is None
        else:
            assert tokenizer.normalizer.normalize_str(text) == get_clean_fn(how)(text)


def test_what_no_file_can_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="has strip_sep_token; allowed: clean"):
        clip_tokenizer.write(tmp_path, {"strip_sep_token": True})
    with pytest.raises(ModelPressError, match="'loer'; allowed.*Did you mean 'lower'"):
        clip_tokenizer.write(tmp_path, {"clean": "loer"})


def test_the_library_of_hugging_face_opens_it(folder: Path) -> None:
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert opened("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert json.loads((folder / "tokenizer_config.json").read_text())["pad_token"] == "!"
