"""The auditor: whether every order, every unit of stock and every cent is accounted for.

It reads the tables only; the one thing it takes on trust is how many orders the workers say they
accepted and rejected. Must never know how the orders got there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .workload import Shop

_ORDERS = "SELECT COUNT(*), SUM(total) FROM {orders}"
_ITEMS = "SELECT SUM(quantity * price) FROM {items}"
_LEDGER = "SELECT COUNT(*), SUM(amount) FROM {ledger}"
_PRODUCTS = "SELECT id, initial, stock FROM {products}"
_SOLD = "SELECT product_id, SUM(quantity) FROM {items} GROUP BY product_id"
_WRONG = (
    "SELECT COUNT(*) FROM {orders} o WHERE o.total <> COALESCE("
    "(SELECT SUM(i.quantity * i.price) FROM {items} i WHERE i.order_id = o.id), -1)"
    " OR o.total <> COALESCE((SELECT l.amount FROM {ledger} l WHERE l.order_id = o.id), -1)"
)


@dataclass(frozen=True)
class Check:
    """One thing that must be so."""

    name: str
    expected: int
    found: int

    @property
    def ok(self) -> bool:
        return self.expected == self.found


def audit(conn: Any, shop: Shop, orders: int, accepted: int, rejected: int) -> list[Check]:
    """Check the books of `shop`, where `orders` were placed."""
    number, totals = _numbers(conn, shop, _ORDERS)
    entries, booked = _numbers(conn, shop, _LEDGER)
    [itemised] = _numbers(conn, shop, _ITEMS)
    [wrong] = _numbers(conn, shop, _WRONG)
    checks = [
        Check("orders accepted + rejected = orders placed", orders, accepted + rejected),
        Check("orders stored = orders accepted", accepted, number),
        Check("entries in the ledger = orders accepted", accepted, entries),
        Check("order totals = price * quantity of all items", itemised, totals),
        Check("money in the ledger = order totals", totals, booked),
        Check("orders that differ from their items or entry", 0, wrong),
        *_stock(conn, shop),
    ]
    conn.rollback()
    return checks


def _stock(conn: Any, shop: Shop) -> list[Check]:
    sold = {product: int(units) for product, units in _rows(conn, shop, _SOLD)}
    shelves = _rows(conn, shop, _PRODUCTS)
    odd = [id for id, initial, left in shelves if left < 0 or initial != left + sold.get(id, 0)]
    return [
        Check(
            "units sold + units left = units at first",
            sum(initial for _, initial, _ in shelves),
            sum(sold.values()) + sum(left for _, _, left in shelves),
        ),
        Check("products of which that is not so, or that are oversold", 0, len(odd)),
    ]


def _rows(conn: Any, shop: Shop, statement: str) -> list[tuple[Any, ...]]:
    cursor = conn.cursor()
    cursor.execute(shop.text(statement))
    rows = list(cursor.fetchall())
    cursor.close()
    return rows


def _numbers(conn: Any, shop: Shop, statement: str) -> list[int]:
    [row] = _rows(conn, shop, statement)
    return [int(number or 0) for number in row]
