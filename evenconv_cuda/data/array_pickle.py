"""Pickles of lists, dictionaries, bytes and uint8 arrays, read without unpickling.

The opcodes that build these are carried out here; what a pickle names is looked up nowhere and called never. Each
opcode makes one small object or one as large as its bytes in the file, so a bound on both bounds the memory.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

import numpy as np

MOST_OPCODES = 2**19
"""CIFAR-100's training images are some 200,000."""

LITERALS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Name:
    """Stands for what a pickle names."""

    text: str


RECONSTRUCT, NDARRAY, DTYPE = (
    Name(text) for text in ("numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")
)
ENCODE = Name("_codecs.encode")
"""Bytes, in what Python 3 writes for Python 2."""

EMPTY_ARRAY, UINT8 = object(), object()
"""Stand for an array that waits for its content, and for its dtype."""


def read_pickle(content: bytes) -> object:
    """What the pickle, of protocol 1 or later, holds; the strings of Python 2 are bytes, arrays are read-only.

    Raises:
        Exception: of many types, with what is wrong; anything but the types above is refused.
    """
    stack, marks, memo = [], [], {}
    encoded = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count == MOST_OPCODES:
            raise ValueError(f"it has more than {MOST_OPCODES} opcodes")
        match opcode.name:
            case name if name in LITERALS:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin1"))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case name if name in TUPLES:
                stack.append(tuple(popped(stack, len(stack) - TUPLES[name])))
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(popped(stack, marks.pop())))
            case "APPEND" | "APPENDS":
                items = popped(stack, marks.pop() if opcode.name == "APPENDS" else len(stack) - 1)
                checked(stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = popped(stack, marks.pop() if opcode.name == "SETITEMS" else len(stack) - 2)
                keys = [checked(key, bytes, str) for key in items[::2]]
                checked(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(accepted(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(accepted(*popped(stack, len(stack) - 2)))
            case "REDUCE":
                name, arguments = popped(stack, len(stack) - 2)
                made = reduced(name, checked(arguments, tuple))
                if isinstance(made, bytes) and (encoded := encoded + len(made)) > len(content):
                    raise ValueError("it encodes more than it holds")
                stack.append(made)
            case "BUILD":
                target, state = popped(stack, len(stack) - 2)
                if target is not EMPTY_ARRAY and target is not UINT8:
                    raise ValueError(f"it sets the state of {type(target).__name__}; accepted are arrays")
                stack.append(array(*checked(state, tuple)) if target is EMPTY_ARRAY else target)
            case "PROTO" | "FRAME" | "STOP":
                pass
            case name:
                raise ValueError(f"it has the opcode {name}; accepted are those of lists, dictionaries and arrays")
    return stack.pop()


def popped(stack: list, start: int) -> list:
    if not 0 <= start <= len(stack):
        raise ValueError("its stack is too short")
    items = stack[start:]
    del stack[start:]
    return items


def checked(value: object, *types: type):
    """``value``, which is of one of these very types; its repr is not printed, it can be endless."""
    if type(value) not in types:
        expected = " or ".join(accepted.__name__ for accepted in types)
        raise ValueError(f"it has a {type(value).__name__} in the place of a {expected}")
    return value


def accepted(module: str, name: str) -> Name:
    found = Name(f"{checked(module, str).replace('numpy.core.', 'numpy._core.')}.{checked(name, str)}")
    if found not in (RECONSTRUCT, NDARRAY, DTYPE, ENCODE):
        raise ValueError(f"it asks for {found.text[:80]}; accepted are arrays")
    return found


def reduced(name: object, arguments: tuple) -> object:
    if name == ENCODE:
        text, codec = (checked(argument, str) for argument in arguments)
        if codec not in ("latin1", "latin-1"):
            raise ValueError(f"it encodes as {codec[:80]!r}; accepted is 'latin1'")
        return text.encode("latin1")
    if name == RECONSTRUCT:
        if checked(arguments[0], Name) != NDARRAY:
            raise ValueError(f"it reconstructs {arguments[0].text}; accepted is {NDARRAY.text}")
        return EMPTY_ARRAY
    if name == DTYPE:
        code = checked(arguments[0], str, bytes)
        if code not in ("u1", b"u1"):
            raise ValueError(f"it asks for an array of {code[:80]!r}; accepted is 'u1', uint8")
        return UINT8
    raise ValueError(f"it calls a {type(name).__name__}; accepted are arrays")


def array(version: object, shape: tuple, dtype: object, fortran: bool, content: bytes) -> np.ndarray:
    """From the state that NumPy pickles."""
    if dtype is not UINT8 or not all(type(size) is int and size >= 0 for size in checked(shape, tuple)):
        raise ValueError("it has an array whose dtype or shape is none")
    order = "F" if checked(fortran, bool, int) else "C"
    return np.frombuffer(checked(content, bytes), np.uint8).reshape(shape, order=order)
