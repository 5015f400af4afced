"""The hot loop of a kernel in its machine code (SASS): which instructions one turn of it issues.

The loop is the outermost one with the most floating-point instructions. A turn takes the way through it that a thread
with aligned data takes where there is something to do. Of all ways through the branches, those that store as many
bytes as the thread owns; of these the ones with the fewest accesses that are narrower than the widest that the loop
has for the same purpose (the others are for data that is not aligned); of these the ones with the most arithmetic and
memory accesses (rows outside the map or the band skip them); of these the shortest (threads away from the map's edges).
Predicated instructions count, since they are issued whatever the predicate. A loop inside it counts as often as makes
the arithmetic what the caller says it is.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

CLASSES = ("math", "shared", "global", "convert", "select", "move", "integer", "control")

_LINE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?P<predicate>@!?U?P\w+ )?\s*(?P<op>[A-Z][A-Z0-9_.]*)(?P<rest>[^;]*);")
_LABEL = re.compile(r"^(\S+):")
_TARGET = re.compile(r"`\((\S+?)\)|(\.L_x_\d+)")
_MATH = re.compile(r"FFMA|FADD|FMUL|HFMA2|HADD2|HMUL2|DFMA|DADD|DMUL")
_CONVERT = re.compile(r"F2F|F2I|I2F|F2FP|PRMT|HADD2\.(F32|BF16)")
_SELECT = re.compile(r"F?SEL|[IFDH]SETP|ISET|PLOP3|P2R|R2P|USEL|UISETP|UPLOP3|VOTE|FMNMX")
_MOVE = re.compile(r"U?MOV|IMAD\.MOV|CS2R|S2R|S2UR|R2UR|U?LDC")
_CONTROL = re.compile(
    r"U?BRA|BRX|BSSY|BSYNC|BREAK|BAR|WARPSYNC|NOP|EXIT|DEPBAR|LDGDEPBAR|CALL|RET|BPT|MEMBAR|ERRBAR|YIELD"
)


@dataclass(frozen=True)
class Instruction:
    op: str
    rest: str
    predicate: str

    @property
    def bytes(self) -> int:
        """Of a memory access, per lane."""
        for part, size in ((".128", 16), (".64", 8), ("U8", 1), ("S8", 1), ("U16", 2), ("S16", 2)):
            if part in self.op:
                return size
        return 4

    @property
    def memory(self) -> str | None:
        """What a memory access is for: copy, load, store (global), shared; None for other instructions."""
        name = self.op.split(".")[0]
        if self.predicate.startswith("@!PT"):
            return None
        return {"LDGSTS": "copy", "LDG": "load", "LD": "load", "STG": "store", "ST": "store"}.get(name) or (
            "shared" if name in ("LDS", "STS", "LDSM", "STSM") else None
        )

    @property
    def kind(self) -> str:
        if self.memory:
            return "shared" if self.memory == "shared" else "global"
        widens = self.op.startswith(("IMAD.U32", "LOP3", "SHL", "IMAD.SHL")) and re.search(
            r"0x10000|0xffff0000", self.rest
        )
        for kind, pattern in (("convert", _CONVERT), ("math", _MATH), ("select", _SELECT), ("move", _MOVE)):
            if pattern.match(self.op):
                return kind
        if widens:
            return "convert"
        return "control" if _CONTROL.match(self.op) or self.predicate.startswith("@!PT") else "integer"


@dataclass
class Block:
    """Instructions that are run one after the other, and the blocks that may come next."""

    instructions: list[Instruction] = field(default_factory=list)
    next: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Turn:
    """One turn of the hot loop, per thread: instructions by class, memory accesses by (what for, bytes)."""

    classes: Counter
    accesses: Counter

    @property
    def instructions(self) -> float:
        return sum(self.classes.values())

    @property
    def shared_wavefronts(self) -> float:
        """Cycles of an SM's shared memory for a warp, without bank conflicts: 128 bytes each."""
        return sum(n * max(size / 4, 1) for (use, size), n in self.accesses.items() if use in ("shared", "copy"))


def blocks_of(sass: str) -> list[Block]:
    """The control-flow graph of the one kernel in nvdisasm's text."""
    blocks, names, targets, falls = [Block()], {}, {}, {}
    for line in sass.splitlines():
        label, match = _LABEL.match(line), _LINE.search(line)
        if label:
            if blocks[-1].instructions:
                blocks.append(Block())
            names[label[1]] = len(blocks) - 1
        if not match:
            continue
        instruction = Instruction(match["op"], match["rest"], match["predicate"] or "")
        blocks[-1].instructions.append(instruction)
        name = instruction.op.split(".")[0]
        if name in ("BRA", "BRX", "EXIT", "RET", "BPT"):
            here = len(blocks) - 1
            found = [a or b for a, b in _TARGET.findall(line)] if name in ("BRA", "BRX") else []
            targets[here] = found
            always = not instruction.predicate and (name != "BRA" or not re.match(r"\s*!?U?P\d", instruction.rest))
            falls[here] = not always or "BRA.DIV" in instruction.op
            blocks.append(Block())
    for i, block in enumerate(blocks):
        block.next = [names[name] for name in targets.get(i, []) if name in names]
        if falls.get(i, True) and i + 1 < len(blocks):
            block.next.append(i + 1)
    return blocks


def components(nodes: set[int], next_of) -> list[set[int]]:
    """Strongly connected components of a graph, each after those that it leads to (Tarjan's, without recursion)."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for root in sorted(nodes):
        if root in index:
            continue
        work = [(root, iter(next_of(root)))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, successors = work[-1]
            for successor in successors:
                if successor not in nodes:
                    continue
                if successor not in index:
                    index[successor] = low[successor] = len(index)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(next_of(successor))))
                    break
                if successor in on_stack:
                    low[node] = min(low[node], index[successor])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = set()
                    while node not in component:
                        component.add(stack.pop())
                    on_stack -= component
                    found.append(component)
    return found


def hot_turn(sass: str, stored: int, math: float | None = None) -> Turn:
    """A turn of the hot loop, in which a thread stores so many bytes. ``math``: its arithmetic instructions, which
    decides how often inner loops turn."""
    blocks = blocks_of(sass)
    loops = [c for c in components(set(range(len(blocks))), lambda i: blocks[i].next) if _is_loop(c, blocks)]
    hot = max(loops, key=lambda loop: sum(_count(blocks[i], "math") for i in loop))
    widest = Counter()
    for i in hot:
        for instruction in blocks[i].instructions:
            if instruction.memory in ("copy", "store"):
                widest[instruction.memory] = max(widest[instruction.memory], instruction.bytes)
    if not widest["copy"]:
        raise ValueError("the hot loop copies nothing from global to shared memory: is it a chain kernel?")

    once, inner = Counter(), Counter()
    for i, inside in _way(blocks, hot, widest, stored):
        (inner if inside else once).update(_parts(blocks[i]))
    straight = sum(n for (kind, _, _), n in once.items() if kind == "math")
    repeated = sum(n for (kind, _, _), n in inner.items() if kind == "math")
    turns = (math - straight) / repeated if math is not None and repeated else 1
    classes, accesses = Counter(), Counter()
    for counted, factor in ((once, 1), (inner, turns)):
        for (kind, use, size), n in counted.items():
            classes[kind] += n * factor
            if use:
                accesses[use, size] += n * factor
    return Turn(classes, accesses)


def _is_loop(component: set[int], blocks: list[Block]) -> bool:
    return len(component) > 1 or any(i in blocks[i].next for i in component)


def _count(block: Block, kind: str) -> int:
    return sum(instruction.kind == kind for instruction in block.instructions)


def _parts(block: Block) -> Counter:
    return Counter((i.kind, i.memory, i.bytes if i.memory else 0) for i in block.instructions)


def _cost(block: Block, widest: Counter) -> tuple[int, int, int]:
    narrow = work = 0
    for instruction in block.instructions:
        use = instruction.memory
        narrow += use == "load" or (use in ("copy", "store") and instruction.bytes < widest[use])
        work += use is not None or instruction.kind == "math"
    return narrow, -work, len(block.instructions)


def _stored(block: Block) -> int:
    return sum(i.bytes for i in block.instructions if i.memory == "store")


# The best way from a block to the loop's head for each number of bytes that it stores: its cost, its first blocks and
# whether they are of an inner loop, and the rest of the way.
Ways = dict[int, tuple[tuple[int, int, int], list[tuple[int, bool]], "tuple | None"]]


def _way(blocks: list[Block], loop: set[int], widest: Counter, stored: int) -> list[tuple[int, bool]]:
    """The way of a turn, from the loop's head back to it: its blocks, and whether they are of an inner loop."""
    head = min({n for i, block in enumerate(blocks) if i not in loop for n in block.next if n in loop})
    inner = components(loop, lambda i: [n for n in blocks[i].next if n != head])
    owner = {i: number for number, component in enumerate(inner) for i in component}
    ways: list[Ways] = []
    for component in inner:  # the last of a way first
        ways.append({})
        nested = len(component) > 1 or component & set(blocks[min(component)].next) - {head}
        if nested:
            own, bytes = _inner_way(blocks, component, widest, stored)
            if not own:
                continue
            cost = tuple(map(sum, zip(*(_cost(blocks[i], widest) for i, _ in own))))
        else:
            (node,) = component
            own, cost, bytes = [(node, False)], _cost(blocks[node], widest), _stored(blocks[node])
        successors = {n for i in component for n in blocks[i].next}
        rests = [{0: ((0, 0, 0), [], None)}] if head in successors else []
        rests += [ways[owner[n]] for n in successors & loop - {head} - component]
        for rest in rests:
            for more, option in rest.items():
                total = tuple(a + b for a, b in zip(cost, option[0]))
                known = ways[-1].get(bytes + more)
                if bytes + more <= stored and (known is None or total < known[0]):
                    ways[-1][bytes + more] = (total, own, option)
    found = ways[owner[head]]
    if stored not in found:
        raise ValueError(f"no way through the hot loop stores {stored} bytes")
    way, step = [], found[stored]
    while step:
        way += step[1]
        step = step[2]
    return way


def _inner_way(blocks: list[Block], loop: set[int], widest: Counter, stored: int) -> tuple[list[tuple[int, bool]], int]:
    """The way of a turn of an inner loop, and what all its turns store: nothing or, in two or four turns, all there is
    to store. None for a loop that stores other amounts, as one over single elements does."""
    turns = (2, 4) if any(_stored(blocks[i]) for i in loop) else (None,)
    for n in turns:
        try:
            return [(i, True) for i, _ in _way(blocks, loop, widest, stored // n if n else 0)], stored if n else 0
        except ValueError:
            continue
    return [], 0
