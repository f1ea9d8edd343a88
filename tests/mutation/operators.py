"""What a mutant is: cosmic-ray's operators, and two of our own.

Ours are those that count in concurrent code: a statement that is left out, and a `with` without its
context (a lock that is not taken). Left out are mutants of what never runs (annotations) and
those that mean the same.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

# They ask for arguments, or do what statements left out do as well.
_NOT_OURS = ("VariableReplacer", "VariableInserter")
# Of the many replacements for an operator, those that somebody might write by mistake: the next one
# beside it, and the opposite.
_REPLACEMENTS = frozenset({
    "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul",
    "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr", "LShift_RShift", "RShift_LShift",
    "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt",
    "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is",
})  # fmt: skip
_REPLACE = re.compile("Replace(Binary|Comparison)Operator_")


@dataclass(frozen=True)
class Mutant:
    """One changed source. Known again by what it changes, not by where that stands."""

    module: str
    function: str
    line: str
    becomes: str
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.module, self.function, self.line, self.becomes

    def __str__(self) -> str:
        return f"{self.module} {self.function}: {self.line!r} -> {self.becomes!r}"

    def as_toml(self) -> str:
        """An entry for the list of equivalents, without the reason."""
        names = ("module", "function", "line", "becomes")
        lines = [f"{name} = {json.dumps(getattr(self, name))}" for name in names]
        return "\n".join(["[[mutant]]", *lines, 'reason = ""'])


def mutants_of(module: str, source: str) -> list[Mutant]:
    """All mutants of a module, each once."""
    seen = {_meaning(source)}
    found = []
    for mutated in (*_by_cosmic_ray(source), *_by_leaving_out(source)):
        try:
            meaning = _meaning(mutated)
        except SyntaxError:
            continue
        if meaning in seen:
            continue
        seen.add(meaning)
        mutant = _described(module, source, mutated)
        if _is_seen(mutant):
            found.append(mutant)
    return found


def _by_cosmic_ray(source: str) -> Iterator[str]:
    tree = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        kind = name.rpartition("/")[2]
        if kind in _NOT_OURS:
            continue
        if _REPLACE.match(kind) and _REPLACE.sub("", kind) not in _REPLACEMENTS:
            continue
        operator = get_operator(name)()
        places = sum(len(list(operator.mutation_positions(node))) for node in tree)
        for number in range(places):
            mutated = mutate_code(source, operator, number)
            if mutated is not None:
                yield mutated


def _by_leaving_out(source: str) -> Iterator[str]:
    lines = source.splitlines(keepends=True)
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.With):
                yield _replaced(lines, node.items[0].context_expr, node.body[0], "with", "if 1:")
            elif _is_statement(node):
                yield _cut(lines, node)


def _is_statement(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)  # a docstring, or ...
    kinds = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete, ast.Raise, ast.Return)
    return isinstance(node, kinds)


def _cut(lines: list[str], node: Any) -> str:
    """With `pass` in the place of a statement."""
    before, after = lines[: node.lineno - 1], lines[node.end_lineno :]
    first = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    last = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    return "".join([*before, f"{first}pass{last}", *after])


def _replaced(lines: list[str], context: Any, body: Any, word: str, by: str) -> str:
    """With `if 1:` in the place of a `with` statement's head."""
    number = context.lineno - 1
    head = lines[number]
    indent = head[: len(head) - len(head.lstrip())]
    assert head.strip().startswith(word), head
    return "".join([*lines[:number], f"{indent}{by}\n", *lines[body.lineno - 1 :]])


class _Bare(ast.NodeTransformer):
    """Takes off what never runs, since annotations are not evaluated."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return ast.Pass()
        return ast.Assign([node.target], self.generic_visit(node).value, lineno=0)  # type: ignore[attr-defined]

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return ast.Pass()
        return self.generic_visit(node)


def _is_seen(mutant: Mutant) -> bool:
    """Not so what type checkers see alone, or what is a word of the syntax and no operator."""
    return not mutant.line.startswith(("def ", "if TYPE_CHECKING", "TYPE_CHECKING"))


def _meaning(source: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(source)))


def _described(module: str, source: str, mutated: str) -> Mutant:
    old, new = source.splitlines(), mutated.splitlines()
    removed, added, at = [], [], 0
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if tag != "equal":
            at = at or i1 + 1
            removed += old[i1:i2]
            added += new[j1:j2]
    return Mutant(module, _function_at(source, at), _flat(removed), _flat(added), mutated)


def _flat(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines).strip()


def _function_at(source: str, line: int) -> str:
    """The qualified name of the innermost function around a line."""
    names: list[str] = []
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        for node in ast.iter_child_nodes(nodes.pop()):
            span = range(getattr(node, "lineno", 0), (getattr(node, "end_lineno", 0) or 0) + 1)
            decorators = getattr(node, "decorator_list", [])
            if decorators:
                span = range(decorators[0].lineno, span.stop)
            if line in span:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    names.append(node.name)
                nodes = [node]
                break
    return ".".join(names) or "-"
