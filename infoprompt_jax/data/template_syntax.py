"""The jinja that templates are written in: what of its syntax they may use, and how each part of it pays for its work.

`bounded` changes the syntax tree before jinja compiles it. What costs more than its place in the text suggests is
wrapped in a filter of `FILTERS`, whose name no template can spell: a loop, a macro's call, a list, a slice, a
comparison. A name of jinja's, `range`, is a function where it is called, and a column everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from infoprompt_jax import foreign
from infoprompt_jax.data.template_filters import DICTIONARY_METHODS, Rendering
from infoprompt_jax.data.template_text import texts
from infoprompt_jax.data.template_work import STEP

DEEPEST = 50  # levels of nesting; promptsource's templates have at most 10
SELF = "self_3ed2dface8203c4c9dfb1a5dc58e41e0"  # stands for the column `self`, which is a word of jinja's
REFUSED = {
    nodes.Block: "block",
    nodes.Extends: "extends",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.ScopedEvalContextModifier: "autoescape",
}


@jinja2.pass_context
def _made(context: Rendering, value: Any) -> Any:
    return context.budget.made(value)


@jinja2.pass_context
def _counted(context: Rendering, value: Any) -> Any:
    context.budget.count(value)
    return value


@jinja2.pass_context
def _joined(context: Rendering, values: Sequence[Any]) -> str:
    """What the operator `~` gives."""
    parts = texts(values)
    context.budget.spend(sum(map(len, parts)))
    return "".join(parts)


@jinja2.pass_context
def _step(context: Rendering, weight: int) -> None:
    """One turn of a loop, or one call of a macro."""
    context.budget.spend(abs(weight))


@jinja2.pass_context
def _turns(context: Rendering, values: Any, weight: int) -> Any:
    """What a loop goes through; its condition is evaluated for each."""
    if isinstance(values, Sized):
        context.budget.spend(len(values) * abs(weight))
    return values


@jinja2.pass_context
def _method(context: Rendering, value: Any, name: str) -> Any:
    """`value.items`, called: the method, whether or not a dictionary has such a key."""
    return context.environment.method(value, name)  # pyright: ignore[reportAttributeAccessIssue]


MADE, COUNTED, JOINED, STEPPED, TURNS, METHOD = "$made", "$counted", "$joined", "$step", "$turns", "$method"
FILTERS: dict[str, Callable[..., Any]] = {
    MADE: _made,
    COUNTED: _counted,
    JOINED: _joined,
    STEPPED: _step,
    TURNS: _turns,
    METHOD: _method,
}


def applied(name: str, node: Any, *arguments: Any) -> nodes.Filter:
    """A filter applied to a part of the tree."""
    constants = [nodes.Const(argument) for argument in arguments]
    return nodes.Filter(node, name, constants, [], None, None, lineno=node.lineno)


def weight(parts: Sequence[nodes.Node]) -> int:
    """What it costs to evaluate parts of the tree once: their steps, and the characters that are written in them."""
    every = [node for part in parts for node in (part, *part.find_all(nodes.Node))]
    written = [node.data for node in every if isinstance(node, nodes.TemplateData)]
    return STEP * len(every) + sum(map(len, written))


class Bounded(NodeTransformer):
    """Refuses what templates may not use, and makes the rest pay."""

    def __init__(self, tree: nodes.Template, environment: jinja2.Environment, functions: Sequence[str]) -> None:
        self.environment = environment
        names = list(tree.find_all(nodes.Name))
        self.bound = {name.name for name in names if name.ctx != "load"}
        self.bound |= {macro.name for macro in tree.find_all(nodes.Macro)}
        self.functions = set(functions) - self.bound

    def get_visitor(self, node: nodes.Node) -> Any:
        """The method for a node: `visit_for` for a `For`."""
        return getattr(self, f"visit_{type(node).__name__.lower()}", None)

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if word := REFUSED.get(type(node)):
            raise jinja2.TemplateSyntaxError(f"`{word}` is not available in templates", node.lineno)
        return super().generic_visit(node, *args, **kwargs)

    def visit_output(self, node: nodes.Output) -> nodes.Node:
        for part in node.nodes:
            if isinstance(part, nodes.Const) and isinstance(part.value, bool | None):
                word = str(part.value).lower()
                reason = f"`{{{{ {word} }}}}` is a constant of jinja's: write the text, or row['{word}'] for the column"
                raise jinja2.TemplateSyntaxError(reason, part.lineno)
        return self.generic_visit(node)

    def visit_name(self, node: nodes.Name) -> nodes.Node:
        is_column = node.name == "self" and "self" not in self.bound
        return nodes.Name(SELF, node.ctx, lineno=node.lineno) if is_column else node

    def visit_call(self, node: nodes.Call) -> nodes.Node:
        called = node.node
        if isinstance(called, nodes.Name) and called.name in self.functions:
            node.node = nodes.EnvironmentAttribute(f"functions.{called.name}", lineno=node.lineno)
        elif isinstance(called, nodes.Getattr) and called.attr in DICTIONARY_METHODS:
            node.node = applied(METHOD, called.node, called.attr)
        return self.generic_visit(node)

    def visit_list(self, node: nodes.List) -> nodes.Node:
        return self._made(node, node.items)

    def visit_dict(self, node: nodes.Dict) -> nodes.Node:
        return self._made(node, [item.value for item in node.items])

    def visit_tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._made(node, node.items) if node.ctx == "load" else self.generic_visit(node)

    def _made(self, node: nodes.Expr, items: Sequence[nodes.Expr]) -> nodes.Node:
        is_written = all(isinstance(item, nodes.Const) for item in items)
        self.generic_visit(node)
        return node if is_written else applied(MADE, node)

    def visit_getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return applied(MADE, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return applied(JOINED, nodes.Tuple(node.nodes, "load", lineno=node.lineno))

    def visit_compare(self, node: nodes.Compare) -> nodes.Node:
        """Comparing with what is written out takes no longer than that is long."""
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        is_short = len(sides) == 2 and any(isinstance(side, nodes.Const) for side in sides)
        is_search = any(operand.op in ("in", "notin") for operand in node.ops) and not isinstance(sides[1], nodes.Const)
        self.generic_visit(node)
        if not is_short or is_search:
            node.expr = applied(COUNTED, node.expr)
            for operand in node.ops:
                operand.expr = applied(COUNTED, operand.expr)
        return node

    def visit_for(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise jinja2.TemplateSyntaxError("`recursive` is not available in templates", node.lineno)
        turn = weight(node.body)
        node.iter = applied(TURNS, node.iter, STEP + (weight([node.test]) if node.test else 0))
        return self._stepped(node, turn)

    def visit_macro(self, node: nodes.Macro) -> nodes.Node:
        return self._stepped(node, weight([node]))

    def visit_callblock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._stepped(node, weight([node]))

    def _stepped(self, node: Any, units: int) -> nodes.Node:
        self.generic_visit(node)
        step = nodes.ExprStmt(applied(STEPPED, nodes.Const(units, lineno=node.lineno)), lineno=node.lineno)
        node.body.insert(0, step)
        return node

    def visit_filter(self, node: nodes.Filter) -> nodes.Node:
        return self._available(node, "filter", self.environment.filters)

    def visit_test(self, node: nodes.Test) -> nodes.Node:
        return self._available(node, "test", self.environment.tests)

    def _available(self, node: Any, kind: str, known: Any) -> nodes.Node:
        if node.name not in known:
            raise jinja2.TemplateSyntaxError(f"there is no {kind} {node.name!r} in templates", node.lineno)
        return self.generic_visit(node)


def levels(tree: nodes.Node) -> Iterator[nodes.Node]:
    """One node of each level of the tree."""
    level = [tree]
    while level:
        yield level[0]
        level = [child for node in level for child in node.iter_child_nodes()]


def bounded(source: str, environment: jinja2.Environment, functions: Sequence[str]) -> nodes.Template:
    """The tree of a template, in which each part pays for its work.

    Raises:
      jinja2.TemplateSyntaxError: it is not jinja, or uses what templates may not.
    """
    if source.endswith("{#"):  # which jinja ignores at the end, and nowhere else
        raise jinja2.TemplateSyntaxError("Missing end of comment tag", 1 + source.count("\n"))
    try:
        tree = environment.parse(source)
    except RecursionError:
        raise jinja2.TemplateSyntaxError(f"it is nested deeper than {DEEPEST} levels", 1) from None
    except ValueError as error:  # of a number with thousands of digits
        raise jinja2.TemplateSyntaxError(foreign.reason(error), 1) from None
    for depth, node in enumerate(levels(tree)):
        if depth > DEEPEST:
            raise jinja2.TemplateSyntaxError(f"it is nested deeper than {DEEPEST} levels", node.lineno)
    return Bounded(tree, environment, functions).visit(tree)
