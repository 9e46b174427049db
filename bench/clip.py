"""docs/results/clip.md: what CLIP costs and what is left of it after each technique, measured.

    make bench PART=clip
    python -m bench.clip vit_b32 --preset quick --page clip.md           # one part, shorter, on a page of its own
    python -m bench.clip vit_b32 technique.ptq.transform.attention=true  # overrides follow

A part is a function of PARTS that returns Markdown; it replaces what stands between its two marks on the page
(``<!-- vit_b32 -->`` and ``<!-- end of vit_b32 -->``). The text around them is written by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.clip_accuracy import emoji, heading
from bench.clip_table import variants
from bench.contest import Contender, Contest, markdown
from bench.pressed import arms
from modelpress.assemble import plan_size_mb
from modelpress.errors import ModelPressError, one_of
from modelpress.press import Pressed
from modelpress.pressing import Pressing
from modelpress.report.names import ENGINE_TITLES

PAGE = Path("docs") / "results" / "clip.md"
SHAPES = {"vit_b32": "ViT-B/32", "vit_b16": "ViT-B/16"}  # conf/experiment/clip_<name>_latency.yaml
TOWERS = {"image": "one image", "text": "one caption", "pair": "one image and one caption"}
STAGES = {"fp16": "FP16 file", "bf16": "BF16 file", "ptq": "INT8", "prune_structured": "half of the parameters"}
ANCHOR, LOSSLESS = "onnxruntime/fp32", "openvino/bf16"  # of the original network
INT8 = "ptq", "openvino/int8"
WANTED_SPEEDUP, WANTED_SHARE = 3.8, 0.27  # of ViT-B/32's image tower, on a CPU with AMX


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    for name in args.parts or PARTS:
        text = PARTS[name](name, args)
        print(text, flush=True)
        write_part(args.page, name, text)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parts come first, then options; what has a ``=`` is an override."""
    parser = argparse.ArgumentParser("bench.clip", description=(__doc__ or "").partition("\n")[0])
    parts = f"of {', '.join(PARTS)}; all of them if none is named"
    parser.add_argument("words", nargs="*", metavar="PART | key=value", help=f"{parts}; overrides as for run.py")
    parser.add_argument("--preset", default="default", help="a name in conf/benchmark")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_intermixed_args(list(arguments))
    args.overrides = [word for word in args.words if "=" in word]
    args.parts = [word for word in args.words if "=" not in word]
    for name in args.parts:
        one_of("part", name, PARTS)
    return args


def write_part(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the two marks of a part; a page that does not exist yet is made of them."""
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    old = page.read_text(encoding="utf-8") if page.exists() else f"{first}\n{last}\n"
    before, found, rest = old.partition(first)
    _, ended, after = rest.partition(last)
    if not (found and ended):
        raise ModelPressError(f"{page} lacks the marks {first} and {last}: write them where this part belongs.")
    page.write_text(f"{before}{first}\n{text.strip()}\n{last}{after}", encoding="utf-8")


def latency(name: str, args: argparse.Namespace) -> str:
    """Tables of every tower of a shape, from the experiment of that name."""
    made = arms(f"experiment=clip_{name}_latency", f"benchmark={args.preset}", *args.overrides)
    pressing = Pressing(made.job, made.graph, made.done)
    tables = [part for tower in TOWERS for part in table(pressing, SHAPES[name], tower)]
    weights = "Random weights." if pressing.is_random else "Weights as given."
    first = heading(" ".join([name, "--preset", args.preset, *args.overrides]))
    return "\n\n".join([f"{first} {weights}", *tables])


def table(pressing: Pressing, title: str, tower: str) -> list[str]:
    """Heading, table and the claim about INT8 of one tower."""
    contest = contest_of(pressing, tower)
    shape = pressing.other_shapes(tower)[0]
    heading = f"### {title}, {TOWERS[tower]}" + (f" ({shape})" if tower == "image" else "")
    goal = title == SHAPES["vit_b32"] and tower == "image"
    return [heading, markdown(contest, shape).strip(), f"* {claim(contest, shape, goal=goal)}"]


def contest_of(pressing: Pressing, tower: str) -> Contest:
    """The engines of one tower as rows of one session."""
    contenders: dict[str, Contender] = {}
    for item in pressing.pressed:
        contenders |= rows(item, tower)
    anchor, lossless = (f"{pressing.graph.baseline.slug}/{tower}/{engine}" for engine in (ANCHOR, LOSSLESS))
    return Contest(contenders, pressing.session, None, anchor, lossless if lossless in contenders else anchor)


def rows(item: Pressed, tower: str) -> dict[str, Contender]:
    """One per plan, and one per engine that cannot run the stage."""
    name, begin = STAGES.get(item.stage.name), f"{item.stage.slug}/{tower}"
    plans = {key: plan for key, plan in item.plans.items() if plan.tower == tower}
    found = {key: Contender(name or f"{ENGINE_TITLES[p.engine]} {p.precision.upper()}", p) for key, p in plans.items()}
    absent = {engine: why for (other, engine), why in item.absent.items() if other == tower}
    return found | {f"{begin}/{e}": Contender(f"{name or 'original'}, {e}", None, why=why) for e, why in absent.items()}


def claim(contest: Contest, shape: str, *, goal: bool) -> str:
    """How fast INT8 in OpenVINO is and how large its file, against the original in ONNX Runtime FP32."""
    stage, engine = INT8
    key = next(key for key in contest.contenders if f"/{stage}/" in key and key.endswith(engine))
    ratio = contest.ratio(contest.anchor, key, shape)
    plans = [contest.contenders[name].plan for name in (key, contest.anchor)]
    size, whole = (plan_size_mb(plan) for plan in plans if plan is not None)
    wanted = (f" (wanted >= {WANTED_SPEEDUP})", f" (wanted <= {WANTED_SHARE:.0%})") if goal else ("", "")
    speed = "not timed" if ratio is None else f"{ratio.value:.2f}x [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]"
    return f"INT8 in OpenVINO against ONNX Runtime FP32: {speed}{wanted[0]}; {size / whole:.1%} of the bytes{wanted[1]}"


PARTS: Mapping[str, Callable[[str, argparse.Namespace], str]] = {"emoji": emoji, "variants": variants} | dict.fromkeys(
    SHAPES, latency
)

if __name__ == "__main__":
    main(sys.argv[1:])
