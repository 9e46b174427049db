"""The two towers of a dual encoder as one engine: an image and a text in, both embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from modelpress.engines.base import Arrays, Engine, Plan, Session

PAIR = "pair"


def pair(plans: Sequence[Plan]) -> Plan:
    """One plan of the plans of all towers, in the same engine and precision."""
    first = plans[0]
    target = f"{__name__}.{Pair.__qualname__}"
    parts = tuple(map(yielding, plans))
    return replace(first, target=target, tower=PAIR, settings={"threads": first.settings["threads"]}, parts=parts)


def yielding(plan: Plan) -> Plan:
    """The plan for an engine that is not alone in its process.

    ONNX Runtime's threads wait for more work by spinning, and so take the cores from the other tower: a pair took twice
    the time of its towers.
    """
    return replace(plan, settings={**plan.settings, "spinning": False}) if "spinning" in plan.settings else plan


def paired(plans: Sequence[Plan]) -> list[Plan]:
    """The pairs that plans of several towers make: one per engine and precision that every tower has.

    Quantized plans meet by their order: what one engine made of each tower from the same list of precisions.
    """
    towers = dict.fromkeys(plan.tower for plan in plans)
    if len(towers) < 2:
        return []
    kinds = dict.fromkeys((plan.engine, plan.precision) for plan in plans)
    found = [[p for p in plans if (p.engine, p.precision) == kind] for kind in kinds]
    return [pair(members) for members in found if [p.tower for p in members] == list(towers)]


class Pair(Engine):
    """Opens every part in its own engine, in one process; they answer one after another."""

    name = PAIR

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """See :meth:`Engine.open`."""
        return PairSession([engine_of(part).open(part) for part in plan.parts], [part.tower for part in plan.parts])


class PairSession(Session):
    """``precision`` is that of the parts, or ``mixed``."""

    def __init__(self, sessions: Sequence[Session], towers: Sequence[str]) -> None:
        self.sessions = dict(zip(towers, sessions, strict=True))
        kinds = {session.precision for session in sessions}
        self.precision = kinds.pop() if len(kinds) == 1 else "mixed"
        kept = [session.kernels_kept for session in sessions]
        self.kernels_kept = None if None in kept else all(kept)

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """The outputs of all towers; each takes its own inputs by name."""
        return {name: array for session in self.sessions.values() for name, array in session.run(inputs).items()}

    def device_ms(self) -> dict[str, float]:
        """The sums over both towers, which run one after the other."""
        parts = [session.device_ms() for session in self.sessions.values()]
        return {name: sum(part[name] for part in parts) for name in parts[0]} if all(parts) else {}

    def details(self) -> dict[str, Any]:
        """Those of every tower, by its name."""
        return {tower: session.details() for tower, session in self.sessions.items()}

    def warmed(self) -> None:
        for session in self.sessions.values():
            session.warmed()

    def close(self) -> None:
        for session in self.sessions.values():
            session.close()


def engine_of(plan: Plan) -> type[Engine]:
    """The Engine class of a plan."""
    module, _, name = plan.target.rpartition(".")
    engine: type[Engine] = getattr(import_module(module), name)
    return engine
