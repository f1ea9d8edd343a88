"""What the shop does: its tables, the rush of orders, and one order's transaction.

Portable SQL and money in cents. Must never know where a connection comes from, nor threads.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from .database import Style

PRODUCTS = 100
MOST_LINES = 4
MOST_UNITS = 3
# Units in stock for each unit wanted: below 1, so that some orders come too late.
SUPPLY = 0.95

TABLES = ("products", "orders", "items", "ledger")

_SCHEMA = (
    "CREATE TABLE {products} (id INTEGER PRIMARY KEY, price INTEGER NOT NULL,"
    " initial INTEGER NOT NULL, stock INTEGER NOT NULL)",
    "CREATE TABLE {orders} (id INTEGER PRIMARY KEY, total INTEGER NOT NULL)",
    "CREATE TABLE {items} (order_id INTEGER NOT NULL, product_id INTEGER NOT NULL,"
    " quantity INTEGER NOT NULL, price INTEGER NOT NULL, PRIMARY KEY (order_id, product_id))",
    "CREATE TABLE {ledger} (order_id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)",
)
_STOCK_UP = "INSERT INTO {products} (id, price, initial, stock) VALUES (?, ?, ?, ?)"
_TAKE = "UPDATE {products} SET stock = stock - ? WHERE id = ? AND stock >= ?"
_PRICE = "SELECT price FROM {products} WHERE id = ?"
_ORDER = "INSERT INTO {orders} (id, total) VALUES (?, ?)"
_ITEM = "INSERT INTO {items} (order_id, product_id, quantity, price) VALUES (?, ?, ?, ?)"
_BOOK = "INSERT INTO {ledger} (order_id, amount) VALUES (?, ?)"


class OutOfStock(Exception):
    """The order wants more than there is: its transaction is rolled back, it is rejected."""


@dataclass(frozen=True)
class Order:
    """One order: `(product, quantity)` for each of its lines."""

    id: int
    lines: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Product:
    """What is on sale, and how much of it at first."""

    id: int
    price: int
    stock: int


def plan(orders: int, seed: int = 1) -> tuple[list[Product], list[Order]]:
    """The rush: the same products and orders for the same seed."""
    chance = random.Random(seed)
    rush = [Order(number, _lines(chance)) for number in range(1, orders + 1)]
    wanted = sum(quantity for order in rush for _, quantity in order.lines)
    stock = max(1, int(wanted * SUPPLY / PRODUCTS))
    return [Product(id, chance.randint(100, 9999), stock) for id in range(1, PRODUCTS + 1)], rush


def _lines(chance: random.Random) -> tuple[tuple[int, int], ...]:
    # Sorted, so that two orders lock the rows they share in the same order.
    products = sorted(chance.sample(range(1, PRODUCTS + 1), chance.randint(1, MOST_LINES)))
    return tuple((product, chance.randint(1, MOST_UNITS)) for product in products)


class Shop:
    """One shop's tables, under names that nobody else has, and what is done with them."""

    def __init__(self, style: Style) -> None:
        self._style = style
        prefix = f"dbapi_pool_demo_{uuid4().hex[:12]}_"
        self.tables = {table: prefix + table for table in TABLES}
        self._take, self._price, self._order, self._item, self._book = map(
            self.text, (_TAKE, _PRICE, _ORDER, _ITEM, _BOOK)
        )

    def text(self, statement: str) -> str:
        """`statement` with this shop's table names, in the driver's style."""
        return self._style.text(statement.format(**self.tables))

    def open(self, conn: Any, products: Sequence[Product]) -> None:
        """Create the tables and put the products on the shelves."""
        cursor = conn.cursor()
        for statement in _SCHEMA:
            cursor.execute(self.text(statement))
        stock_up = self.text(_STOCK_UP)
        for product in products:
            row = (product.id, product.price, product.stock, product.stock)
            cursor.execute(stock_up, self._style.values(row))
        cursor.close()
        conn.commit()

    def close(self, conn: Any) -> None:
        """Drop the tables, as far as they were created."""
        for table in self.tables.values():
            cursor = conn.cursor()
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
            cursor.close()
        conn.commit()

    def process(self, conn: Any, order: Order) -> None:
        """Everything that one order does, within the caller's transaction; raises `OutOfStock`."""
        values = self._style.values
        cursor = conn.cursor()
        items = [(order.id, *self._take_line(cursor, *line)) for line in order.lines]
        total = sum(quantity * price for _, _, quantity, price in items)
        cursor.execute(self._order, values((order.id, total)))
        for item in items:
            cursor.execute(self._item, values(item))
        cursor.execute(self._book, values((order.id, total)))
        cursor.close()

    def _take_line(self, cursor: Any, product: int, quantity: int) -> tuple[int, int, int]:
        values = self._style.values
        cursor.execute(self._take, values((quantity, product, quantity)))
        if cursor.rowcount != 1:
            raise OutOfStock(product)
        cursor.execute(self._price, values((product,)))
        [price] = cursor.fetchone()
        return product, quantity, price
