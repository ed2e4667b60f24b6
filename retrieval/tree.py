"""LMDB's own pages, read in plain Python: each in its place, whole, in order, and used once.

LMDB trusts what it reads: a damaged page number or offset can end the process, a damaged free list gives away pages
that are in use. This walk trusts nothing, and so cannot be hurt. It knows the format of LMDB 0.9 on 64 bits,
little-endian, without duplicate keys: what `store` writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE = struct.Struct("<QHHHH")  # number, pad, flags, lower, upper; of an overflow page the last two are its length
HEAD = PAGE.size
META = struct.Struct("<IIQQ")  # magic, version, address, map size; then two databases, last page, transaction
DATABASE = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branch pages, leaf pages, overflow pages, entries, root
META_BYTES = HEAD + META.size + 2 * DATABASE.size + 16
NODE = struct.Struct("<HHHH")  # low and high half of a size or page number, flags, length of the key
BRANCH, LEAF, OVERFLOW, META_PAGE = 1, 2, 4, 8  # flags of pages
BIG, SUBTREE = 1, 2  # flags of nodes
NO_PAGE = (1 << 64) - 1
INTEGER_KEYS = 8  # flag of the free list
DEEPEST = 32  # LMDB's own limit


Buffer = bytes | bytearray | mmap


@dataclass(frozen=True)
class Database:
    """What LMDB notes about one tree."""

    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


@dataclass(frozen=True)
class Meta:
    """One of a file's two meta pages."""

    page_size: int
    free: Database
    main: Database
    last_page: int
    transaction: int


class Damage(Exception):
    """A page is not as LMDB writes it."""


def metas(data: Buffer) -> tuple[Meta, Meta]:
    """Both meta pages.

    Raises:
        Damage: one of them is not one, or they do not follow each other.
    """
    if len(data) < META_BYTES:
        raise Damage(f"expected a file of at least {META_BYTES} bytes, got {len(data)}")
    first = _meta(data, 0, 0)
    second = _meta(data, first.page_size, 1)
    pair = (first.transaction, second.transaction)
    if pair != (0, 0) and (pair[0] % 2, pair[1] % 2, abs(pair[0] - pair[1])) != (0, 1, 1):
        raise Damage(f"meta pages: expected transactions that follow each other, got {pair[0]} and {pair[1]}")
    return first, second


def last_transaction(folder: Path) -> int:
    """The number of the last transaction that changed the environment in `folder`.

    Raises:
        Damage: its meta pages cannot be read.
    """
    with (folder / "data.mdb").open("rb") as file:
        return max(meta.transaction for meta in metas(file.read(2 << 16)))


def _meta(data: Buffer, at: int, number: int) -> Meta:
    page = bytes(data[at : at + META_BYTES])
    if len(page) < META_BYTES:
        raise Damage(f"meta page {number}: expected {META_BYTES} bytes, got {len(page)}")
    found, _, flags, _, _ = PAGE.unpack_from(page)
    magic, version, _, _ = META.unpack_from(page, HEAD)
    if (found, flags, magic, version) != (number, META_PAGE, MAGIC, VERSION):
        raise Damage(f"meta page {number}: expected LMDB's marks, got {(found, flags, hex(magic), version)}")
    place = HEAD + META.size
    size = DATABASE.unpack_from(page, place)[0]
    if size & (size - 1) or not 512 <= size <= 1 << 16:
        raise Damage(f"meta page {number}: expected a page size, got {size}")
    free, main = (_database(page[place + n * DATABASE.size :]) for n in (0, 1))
    return Meta(size, free, main, *struct.unpack_from("<QQ", page, place + 2 * DATABASE.size))


def _database(record: bytes) -> Database:
    return Database(*DATABASE.unpack_from(record)[1:])


class Walk:
    """A walk through all pages that one transaction sees.

    Args:
        data: the file.
        meta: of the transaction. If others write, it must be held open until the walk is over.

    Cost: one visit of each tree page; some 3 µs an entry, one byte of memory a page. Long values are not read.
    """

    def __init__(self, data: Buffer, meta: Meta) -> None:
        self._data, self._meta, self._size = data, meta, meta.page_size
        self._used = bytearray(max(0, min(meta.last_page + 1, len(data) // meta.page_size)))

    def findings(self) -> Iterator[str]:
        """What is wrong, a sentence each; goes on behind what is damaged."""
        if (self._meta.last_page + 1) * self._size > len(self._data):
            yield f"expected {self._meta.last_page + 1} pages, got a file of {len(self._data)} bytes"
        if len(self._used) < 2:
            return
        self._used[0] = self._used[1] = 1
        names = _Tree("names", self._meta.main, marks=SUBTREE)
        yield from self._tree(names)
        for name, record in names.kept:
            yield from self._tree(_Tree(name.decode(errors="replace"), _database(record), marks=BIG))
        free = _Tree("free list", self._meta.free, marks=BIG, flags=INTEGER_KEYS)
        yield from self._tree(free)
        for key, value in free.kept:
            yield from self._free(key, value)

    def _tree(self, tree: _Tree) -> Iterator[str]:
        noted = tree.database
        if noted.flags != tree.flags:
            yield f"{tree.name}: expected flags {tree.flags}, got {noted.flags}"
        whole = True
        if noted.root != NO_PAGE:
            for finding in self._page(tree, noted.root, 1, b"", None):
                whole = False
                yield f"{tree.name}: {finding}"
        wanted = (noted.branches, noted.leaves, noted.overflows, noted.entries)
        if whole and (tree.counts != list(wanted) or (noted.root == NO_PAGE and noted.depth)):
            yield f"{tree.name}: expected {wanted} branch, leaf and overflow pages and entries, got {tree.counts}"

    def _page(self, tree: _Tree, number: int, level: int, low: bytes, high: bytes | None) -> Iterator[str]:
        """Findings of a page and what hangs on it; its keys must be in [low, high)."""
        leaf = level >= min(tree.database.depth, DEEPEST)
        try:
            nodes = self._nodes(number, LEAF if leaf else BRANCH)
        except Damage as damage:
            yield str(damage)
            return
        tree.counts[1 if leaf else 0] += 1
        if leaf:
            for node in nodes:
                try:
                    self._leaf(tree, number, node, low, high)
                except Damage as damage:
                    yield str(damage)
            return
        starts = [low, *(node.key for node in nodes[1:])]
        for node, start, end in zip(nodes, starts, [*starts[1:], high], strict=True):
            if not tree.between(start, low, high):
                yield f"page {number}: expected a key in its place, got {start.hex()}"
            yield from self._page(tree, node.size | node.marks << 32, level + 1, start, end)

    def _nodes(self, number: int, kind: int) -> list[_Node]:
        self._take(number, 1)
        page = bytes(self._data[number * self._size : (number + 1) * self._size])
        found, _, flags, lower, upper = PAGE.unpack_from(page)
        if (found, flags) != (number, kind):
            raise Damage(f"page {number}: expected that number and kind {kind}, got {found} and {flags}")
        if not HEAD < lower <= upper <= self._size or lower % 2:
            raise Damage(f"page {number}: expected nodes within {self._size} bytes, got {lower} and {upper}")
        nodes = []
        for at in struct.unpack_from(f"<{(lower - HEAD) // 2}H", page, HEAD):
            if not upper <= at <= self._size - NODE.size:
                raise Damage(f"page {number}: expected nodes behind byte {upper}, got one at {at}")
            low, high, marks, length = NODE.unpack_from(page, at)
            begin = at + NODE.size
            nodes.append(_Node(low | high << 16, marks, page[begin : begin + length], page[begin + length :]))
            if len(nodes[-1].key) != length:
                raise Damage(f"page {number}: expected a key within the page, got {length} bytes at {at}")
        return nodes

    def _leaf(self, tree: _Tree, number: int, node: _Node, low: bytes, high: bytes | None) -> None:
        big = node.marks == BIG
        if node.marks != tree.marks and (node.marks or tree.marks == SUBTREE):
            raise Damage(f"page {number}: expected a value marked {tree.marks}, got {node.marks}")
        wanted = DATABASE.size if tree.marks == SUBTREE else 8 if big else node.size
        if len(node.rest) < wanted or (tree.marks == SUBTREE and node.size != wanted):
            raise Damage(f"page {number}: expected a value within the page, got {node.size} bytes")
        if not node.key or not tree.between(node.key, low, high) or not tree.follows(node.key):
            raise Damage(f"page {number}: expected keys in order, got {node.key.hex()}")
        tree.last = node.key
        tree.counts[3] += 1
        keeps = tree.marks == SUBTREE or bool(tree.flags)
        value = node.rest[: node.size]
        if big:
            first = int.from_bytes(node.rest[:8], "little")
            tree.counts[2] += self._big(first, node.size)
            begin = first * self._size + HEAD
            value = bytes(self._data[begin : begin + node.size]) if keeps else b""
        if keeps:
            tree.kept.append((node.key, value))

    def _big(self, number: int, size: int) -> int:
        """How many pages of its own a value has."""
        pages = (HEAD - 1 + size) // self._size + 1
        self._take(number, pages)
        start = number * self._size
        found, _, flags, low, high = PAGE.unpack_from(self._data[start : start + HEAD])
        if (found, flags, low | high << 16) != (number, OVERFLOW, pages):
            raise Damage(f"page {number}: expected {pages} pages of a long value, got {low | high << 16}")
        return pages

    def _take(self, number: int, pages: int) -> None:
        if number < 2 or number + pages > len(self._used):
            raise Damage(f"expected pages 2 to {len(self._used) - 1}, got {number} and {pages - 1} behind it")
        if any(self._used[number : number + pages]):
            raise Damage(f"page {number}: expected to be used once, got a second use")
        self._used[number : number + pages] = b"\1" * pages

    def _free(self, key: bytes, value: bytes) -> Iterator[str]:
        transaction, count = int.from_bytes(key, "little"), int.from_bytes(value[:8], "little")
        if len(key) != 8 or transaction > self._meta.transaction or len(value) < 8 * (count + 1):
            yield f"free list: expected the pages of a transaction, got {count} of {transaction}"
            return
        for number in struct.unpack_from(f"<{count}Q", value, 8):
            try:
                self._take(number, 1)
            except Damage as damage:
                yield f"free list of {transaction}: {damage}"


@dataclass(frozen=True)
class _Node:
    size: int  # of its value; of a branch, the low half of the page below
    marks: int  # of a branch, the high part of it
    key: bytes
    rest: bytes  # what follows the key in the page


class _Tree:
    """One tree on a walk."""

    def __init__(self, name: str, database: Database, *, marks: int, flags: int = 0) -> None:
        self.name, self.database, self.marks, self.flags = name, database, marks, flags
        self.last = b""  # key
        self.counts = [0, 0, 0, 0]  # branches, leaves, overflow pages, entries
        self.kept: list[tuple[bytes, bytes]] = []  # of names and the free list, the values too

    def follows(self, key: bytes) -> bool:
        """Whether a key is greater than the one before it."""
        return not self.last or self._order(self.last) < self._order(key)

    def between(self, key: bytes, low: bytes, high: bytes | None) -> bool:
        """Whether a key is in [low, high)."""
        return self._order(low) <= self._order(key) and (high is None or self._order(key) < self._order(high))

    def _order(self, key: bytes) -> bytes:
        return key[::-1] if self.flags & INTEGER_KEYS else key  # little-endian numbers, all of 8 bytes
