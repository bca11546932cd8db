"""Eight float32 lanes as one value inside numba kernels: arithmetic, comparisons, select, load, store, sum.

LLVM turns them into the vector instructions of the machine at hand (AVX-512, AVX2, SSE, NEON), so a kernel's speed does
not hang on the loop vectoriser's mood. Importing this module imports numba; only the kernel modules do so.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar

import numba
from llvmlite import ir
from numba.core import types
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_CONTRACT = ("contract",)  # allow a * b + c in one instruction, nothing else


class _Lanes(types.Type):
    """numba type of eight float32."""

    def __init__(self) -> None:
        super().__init__(name="f32x8")


class _Mask(types.Type):
    """numba type of eight booleans, the result of a comparison."""

    def __init__(self) -> None:
        super().__init__(name="mask8")


lanes_t, mask_t = _Lanes(), _Mask()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:
        super().__init__(manager, fe_type, _VECTOR)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:
        super().__init__(manager, fe_type, ir.VectorType(ir.IntType(1), LANES))


def _splat(builder: Any, scalar: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, zero)
    return builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def _widen(context: Any, builder: Any, value: Any, kind: types.Type) -> Any:
    if kind == lanes_t:
        return value
    return _splat(builder, context.cast(builder, value, kind, types.float32))


def _define(op: Callable, result: types.Type, emit: Callable) -> None:
    """Give a Python operator its meaning for (lanes, lanes), (lanes, number) and (number, lanes)."""
    pairs: list[tuple[types.Type, types.Type]] = [(lanes_t, lanes_t)]
    pairs += [pair for n in (types.float32, types.float64) for pair in ((lanes_t, n), (n, lanes_t))]

    @infer_global(op)
    class _Template(ConcreteTemplate):
        cases: ClassVar = [signature(result, *pair) for pair in pairs]

    def lower(context, builder, sig, args):
        return emit(builder, *(_widen(context, builder, v, k) for v, k in zip(args, sig.args)))

    for pair in pairs:
        lower_builtin(op, *pair)(lower)


_define(operator.add, lanes_t, lambda b, x, y: b.fadd(x, y, flags=_CONTRACT))
_define(operator.sub, lanes_t, lambda b, x, y: b.fsub(x, y, flags=_CONTRACT))
_define(operator.mul, lanes_t, lambda b, x, y: b.fmul(x, y, flags=_CONTRACT))
_define(operator.truediv, lanes_t, lambda b, x, y: b.fdiv(x, y))
_define(operator.lt, mask_t, lambda b, x, y: b.fcmp_ordered("<", x, y))


@intrinsic
def splat(typingctx, scalar):
    """Eight copies of a number."""
    return lanes_t(scalar), lambda context, builder, sig, args: _widen(context, builder, args[0], sig.args[0])


@intrinsic
def select(typingctx, mask, x, y):
    """Lane by lane: ``x`` where the mask holds, ``y`` elsewhere; either may be a number."""

    def emit(context, builder, sig, args):
        x, y = (_widen(context, builder, v, k) for v, k in zip(args[1:], sig.args[1:]))
        return builder.select(args[0], x, y)

    return lanes_t(mask, x, y), emit


@intrinsic
def total(typingctx, x):
    """Sum of the eight lanes, a float32 (always in the same order on one machine)."""

    def emit(context, builder, sig, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR])
        reduce = builder.module.declare_intrinsic("llvm.vector.reduce.fadd.v8f32", (), kind)
        return builder.call(reduce, [ir.Constant(ir.FloatType(), 0.0), args[0]], fastmath=("reassoc",))

    return types.float32(x), emit


def _pointer(context: Any, builder: Any, array_t: types.Array, array: Any, index: Any) -> Any:
    data = context.make_array(array_t)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(_VECTOR))


@intrinsic
def load(typingctx, array, index):
    """Eight neighbours of a flat float32 array, from ``index`` on (not checked)."""

    def emit(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.int64)
        return builder.load(_pointer(context, builder, sig.args[0], args[0], index), align=4)

    return lanes_t(array, index), emit


@intrinsic
def store(typingctx, array, index, value):
    """Write eight neighbours of a flat float32 array, from ``index`` on (not checked)."""

    def emit(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.int64)
        builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], index), align=4)
        return context.get_dummy_value()

    return types.void(array, index, value), emit


def kernel(function: Callable) -> Callable:
    """``numba.njit`` that frees the GIL and keeps its machine code on disk, or in memory where no folder can be written."""
    jit = functools.partial(numba.njit, nogil=True, fastmath={"contract"}, error_model="numpy")
    try:
        return jit(cache=True)(function)
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        return jit()(function)
