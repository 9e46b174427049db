"""From an ONNX graph to a serialized engine, strongly typed: its types are those of the graph."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelpress.engines.base import Unsupported
from modelpress.engines.trt.load import Capabilities, builder, load, logger
from modelpress.engines.trt.profiles import KINDS, Profile
from modelpress.errors import ModelPressError


@dataclass(frozen=True)
class Options:
    """``timing_cache``: file with the kernel timings of earlier builds on this GPU.

    ``compute_capabilities``: GPUs to build for (``"89"``), by default all that TensorRT-RTX knows.
    """

    profiles: Sequence[Profile] = ()
    tf32: bool = False
    timing_cache: Path | None = None
    compute_capabilities: Sequence[str] = ()


@dataclass(frozen=True)
class Built:
    """``plan``: the serialized engine; ``messages``: what TensorRT complained of all the same.

    ``seconds``: of the build alone; ``parse_seconds``: of reading the graph before it, 0 where nobody looked.
    """

    plan: bytes
    seconds: float
    messages: list[str] = field(default_factory=list)
    parse_seconds: float = 0.0


def build(flavour: str, onnx: bytes, options: Options) -> Built:
    """Parse, configure and build.

    Raises:
        Unsupported: the module or its GPU is missing, or TensorRT refuses the graph; its own sentences are in it.
        ModelPressError: an option that this flavour does not have.
    """
    trt, able = load(flavour)
    maker = builder(trt, able)
    logger(trt).taken()
    began = time.monotonic()
    network, _parser = parsed(trt, able, maker, onnx)
    spent = time.monotonic() - began
    config = configure(trt, able, maker, options)
    built = serialized(trt, maker, network, config, options.timing_cache if not able.builds_without_gpu else None)
    return replace(built, parse_seconds=spent)


def parsed(trt: Any, able: Capabilities, maker: Any, onnx: bytes, *, typed: bool = True) -> tuple[Any, Any]:
    """The network of an ONNX file and its parser, which must outlive it. Raises Unsupported with the nodes at fault."""
    flags = 0
    if typed:
        if not able.strong_typing_flag:
            raise Unsupported(f"this {trt.__name__} has no strongly typed networks; version 10.12 or newer has them")
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = maker.create_network(flags)
    parser = trt.OnnxParser(network, logger(trt))
    if not parser.parse(onnx):
        said = [_fault(parser.get_error(index)) for index in range(parser.num_errors)]
        raise Unsupported(f"TensorRT cannot read the graph: {'; '.join(dict.fromkeys(said))}")
    return network, parser


def _fault(error: Any) -> str:
    node = error.node_operator() or "the file"
    name = f" {error.node_name()!r}" if error.node_name() else ""
    why = {"false": "TensorRT has no such operator"}.get(error.desc(), error.desc())
    return f"{node}{name}: {why}"


def configure(trt: Any, able: Capabilities, maker: Any, options: Options) -> Any:
    """A builder configuration with profiles, TF32 as told and layers that can be inspected."""
    config = maker.create_builder_config()
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for index, profile in enumerate(options.profiles):
        if config.add_optimization_profile(profile_of(maker, profile)) < 0:
            raise ModelPressError(f"profile {index} ({profile}) is refused: {' '.join(logger(trt).taken())}")
    _choose_gpus(trt, able, config, options.compute_capabilities)
    if options.timing_cache is not None and not able.builds_without_gpu:  # RTX compiles at run time and times nothing
        saved = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(saved), False)
    return config


def profile_of(maker: Any, profile: Profile) -> Any:
    """The same as TensorRT's own object."""
    made = maker.create_optimization_profile()
    for name in profile.min:
        made.set_shape(name, *(getattr(profile, kind)[name] for kind in KINDS))
    return made


def _choose_gpus(trt: Any, able: Capabilities, config: Any, wanted: Sequence[str]) -> None:
    if not wanted:
        return
    if not able.builds_without_gpu:
        raise ModelPressError("compute_capabilities is TensorRT-RTX's; TensorRT builds for the GPU of this machine.")
    known = [name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    if unknown := [name for name in wanted if name not in known]:
        raise ModelPressError(f"compute_capabilities has {unknown[0]!r}; this {trt.__name__} knows {', '.join(known)}.")
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{name}"), index)


def serialized(trt: Any, maker: Any, network: Any, config: Any, timing_cache: Path | None) -> Built:
    """Build the engine, keep the timings. Raises Unsupported with TensorRT's own errors."""
    began = time.monotonic()
    plan = maker.build_serialized_network(network, config)
    said = logger(trt).taken()
    if plan is None:
        fix = "; give profiles, or a max_length, that the network takes" if "profile" in " ".join(said) else ""
        raise Unsupported(f"TensorRT cannot build the graph: {'; '.join(said) or 'it gives no reason'}{fix}")
    if timing_cache is not None:
        timing_cache.parent.mkdir(parents=True, exist_ok=True)
        half = timing_cache.with_suffix(f".{os.getpid()}.tmp")
        half.write_bytes(bytes(config.get_timing_cache().serialize()))
        half.replace(timing_cache)
    return Built(bytes(plan), time.monotonic() - began, said)
