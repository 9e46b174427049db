from __future__ import annotations

import pandas as pd

from modelpress.data.checks import thin_table

SPLITS = ["train"] * 50 + ["calibration"] * 3 + ["validation"] * 10 + ["test"] * 20


def test_thin_table_limits_each_split_and_keeps_the_order() -> None:
    frame = pd.DataFrame({"text": range(83), "label": [i % 2 for i in range(83)], "split": SPLITS})
    thinned = thin_table(frame, 6)
    counts = thinned["split"].value_counts()
    assert counts.to_dict() == {"train": 6, "validation": 6, "test": 6, "calibration": 3}
    assert thinned["text"].is_monotonic_increasing
    assert thinned.groupby("split")["label"].nunique().tolist() == [2, 2, 2, 2]
