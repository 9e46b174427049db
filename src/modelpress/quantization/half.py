"""A float32 network run as its 16-bit graph will run: the rules of :mod:`modelpress.export.typed_nodes`, on PyTorch.

Every operator is watched, not only the outputs of modules: attention scores and residual sums overflow too, and no
module returns them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from modelpress.export.typed_nodes import inside, shared

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PRODUCTS = frozenset({"addmm", "addmv", "baddbmm", "bmm", "convolution", "dot", "embedding", "linear", "mm", "mv"})
KEEP = frozenset(
    (
        *("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit_no_training"),
        *("_fused_rms_norm", "_softmax", "_safe_softmax", "_log_softmax", "softplus", "logsumexp", "exp", "log", "pow"),
        *("sqrt", "rsqrt", "reciprocal", "cumsum", "sum", "mean", "prod", "var", "var_mean", "linalg_vector_norm"),
        *("norm",),
    )
)


@dataclass
class Layer:
    """What one module computes in 16 bits. ``largest``: of the values that go in and out; ``error``: relative, RMS."""

    largest: float = 0.0
    error: float = 0.0
    multiplies: bool = False  # the operator that saw ``largest`` is a product


@dataclass
class Seen:
    """What a run saw: layers by the name of the module, parameters read in 16 bits, module of the last product; and
    ``heads``, that of every tower once it has run.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)
    last_product: str = ""
    heads: list[str] = field(default_factory=list)


class Half(TorchDispatchMode):
    """Inside :meth:`running`, ``model`` computes in ``kind`` but in the modules (names or their beginnings) ``pinned``.

    ``rounding=True`` rounds what goes into and comes out of each 16-bit operator, which itself computes in float32, as
    hardware accumulates. ``rounding=False`` leaves the numbers alone and looks at them: an overflow is then seen where
    it begins, and not everywhere after it.
    """

    def __init__(self, model: nn.Module, kind: str, pinned: Sequence[str] = (), *, rounding: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.dtype = TYPES[kind]
        self.limit = torch.finfo(self.dtype).max
        self.pinned = tuple(pinned)
        self.rounding = rounding
        self.seen = Seen()
        self.stack: list[str] = []
        self.kept: dict[tuple[Any, ...], Any] = {}
        self.constants: dict[int, set[str]] = {}
        for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers()):
            self.constants.setdefault(tensor.untyped_storage().data_ptr(), set()).add(name)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch every forward pass in the block; attention is computed step by step in it."""
        hooks = []
        for name, module in self.model.named_modules():
            hooks.append(module.register_forward_pre_hook(partial(self._enter, name)))
            hooks.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str, *_: Any) -> None:
        self.stack.append(name)

    def _leave(self, *_: Any) -> None:
        self.stack.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        floats = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.dtype == torch.float32]
        moving = [tensor for tensor in floats if self._names(tensor) is None]
        name = func.overloadpacket.__name__.rstrip("_")
        owner = (self.stack and self.stack[-1]) or shared(getattr(tensor, "_owner", "") for tensor in moving)
        low = (
            name not in KEEP
            and not inside(owner, self.pinned)
            and not any(isinstance(leaf, float) and abs(leaf) > self.limit for leaf in leaves)  # a mask's lowest float
            and (name in PRODUCTS or (bool(moving) and all(getattr(tensor, "_low", False) for tensor in moving)))
        )
        if low and self.rounding and not func.is_view:
            result = self._rounded(func, args, kwargs)
        else:
            result = func(*args, **kwargs)
        if low and not self.rounding and not func.is_view:
            self._look(func, args, kwargs, floats, result, owner)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                tensor._low, tensor._owner = low, owner  # type: ignore[attr-defined]
        return result

    def _names(self, tensor: Tensor) -> set[str] | None:
        """The parameters or buffers that a tensor is a view of; ``None``: it was computed."""
        return self.constants.get(tensor.untyped_storage().data_ptr())

    def _rounded(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func._schema.is_mutable:  # it writes into its arguments, so these must stay what they are
            result = func(*args, **kwargs)
            return result.copy_(self._round(result)) if isinstance(result, Tensor) else result
        return tree_map(self._round, func(*tree_map(self._round, args), **tree_map(self._round, kwargs)))

    def _round(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        return self._once("rounded", value, lambda: value.to(self.dtype).float())

    def _once(self, what: str, tensor: Tensor, compute: Callable[[], Any]) -> Any:
        """The result for a weight is kept: it is the same in every batch."""
        if self._names(tensor) is None:
            return compute()
        key = (what, tensor.data_ptr(), tensor.shape, tensor.stride())
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]

    def _largest(self, tensor: Tensor) -> float:
        return float(self._once("largest", tensor, lambda: float(tensor.abs().max()) if tensor.numel() else 0.0))

    def _look(self, func: Any, args: Any, kwargs: Any, floats: Sequence[Tensor], result: Any, owner: str) -> None:
        multiplies = func.overloadpacket.__name__ in PRODUCTS
        layer = self.seen.layers.setdefault(owner, Layer())
        results = [
            tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor) and tensor.is_floating_point()
        ]
        largest = max(map(self._largest, (*floats, *results)), default=0.0)
        if largest > layer.largest:
            layer.largest, layer.multiplies = largest, multiplies
        if multiplies:
            self.seen.last_product = owner
            layer.error = max(layer.error, relative_error(self._rounded(func, args, kwargs), result))
        for tensor in floats:
            self.seen.parameters |= self._names(tensor) or set()


def relative_error(given: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference over that of ``exact``; 0 for two empty or zero tensors."""
    scale = float(exact.float().square().mean().sqrt()) if exact.numel() else 0.0
    return float((given - exact).float().square().mean().sqrt()) / scale if scale else 0.0
