"""The environment of all templates: what names, columns and operators mean in them.

Templates come from files of other people, so they run in jinja's sandbox, and each part of them pays for its work:
`template_syntax.py` has what they may write, `template_filters.py` what they may call, `template_work.py` the limit.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.utils import missing

from infoprompt_jax.data import template_filters, template_formats, template_syntax
from infoprompt_jax.data.template_filters import Draws, Rendering, whole
from infoprompt_jax.data.template_text import Whole, text
from infoprompt_jax.data.template_work import STEP, Budget

WHOLE = re.compile(r"\d{1,18}(\.0+)?", re.ASCII)
TRUTHS = {"false": 0, "true": 1}
OF_JINJA = (jinja2.runtime.LoopContext, jinja2.utils.Cycler, jinja2.utils.Joiner, jinja2.utils.Namespace)
METHODS: tuple[tuple[Any, frozenset[str]], ...] = (
    (str, template_filters.TEXT_METHODS),
    (list | tuple, template_filters.LIST_METHODS),
    (Mapping, template_filters.DICTIONARY_METHODS),
)


class Choices(list):
    """The answer choices inside a template.

    An index out of range is an error, -1 included: it is the label of a row without one, not the last choice.
    """

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and index < 0:
            raise IndexError(index)
        return super().__getitem__(index)


class Row(dict):
    """The whole row, for columns whose names are not jinja's: row["Tweet text"]."""


class Missing(jinja2.Undefined):
    """A missing part of a column is empty, as in promptsource; a missing column or choice is an error."""

    def __new__(
        cls,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[TemplateRuntimeError] = jinja2.UndefinedError,
    ) -> jinja2.Undefined:
        is_column = obj is missing and name is not None
        name = "self" if name == template_syntax.SELF else name
        if isinstance(obj, Choices):
            hint = f"answer choice {name} (from 0) does not exist; there are {len(obj)}"
            if name in obj:
                hint += f", and {name!r} is the text of one: write {{{{ label }}}}, not {{{{ answer_choices[label] }}}}"
        if isinstance(obj, Row):
            hint = f"{name!r} is undefined"
        if is_column or isinstance(obj, Choices | Row) or exc is not jinja2.UndefinedError:
            return jinja2.StrictUndefined(hint, obj, name, exc)
        return super().__new__(cls)


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """jinja's sandbox, in which operators and calls are paid for."""

    intercepted_binops = frozenset(jinja2.sandbox.SandboxedEnvironment.default_binop_table)
    context_class = Rendering
    # A name is a function only where it is called.
    functions = types.SimpleNamespace(
        range=jinja2.sandbox.safe_range,
        zip=template_filters.zipped,
        dict=dict,
        cycler=jinja2.utils.Cycler,
        joiner=jinja2.utils.Joiner,
        namespace=jinja2.utils.Namespace,
    )

    def __init__(self) -> None:
        super().__init__(undefined=Missing, finalize=printed)
        self.globals.clear()
        self.filters = template_filters.filters() | template_syntax.FILTERS
        self.tests = template_filters.tests()

    def tree(self, source: str) -> nodes.Template:
        """A template's syntax tree, bounded. Raises jinja2.TemplateSyntaxError."""
        return template_syntax.bounded(source, self, tuple(vars(self.functions)))

    def compiled(self, tree: nodes.Template) -> jinja2.Template:
        """The template of a tree."""
        return self.template_class.from_code(self, self.compile(tree), {}, None)

    def rendering(self, template: jinja2.Template, names: Mapping[str, Any], budget: Budget, draws: Draws) -> Rendering:
        """A context, in which a template is rendered once: `template.root_render_func` takes it."""
        context = template.new_context(dict(names))
        assert isinstance(context, Rendering)
        context.budget, context.draws = budget, draws
        return context

    def call_binop(self, context: Rendering, operator: str, left: Any, right: Any) -> Any:
        """Raises SecurityError for `**`, and for what is too large."""
        budget = context.budget
        if operator == "**":
            raise SecurityError("`**` is not available in templates")
        if operator == "%" and isinstance(left, str):
            return budget.made(template_formats.percent(budget, left, right))
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, Sequence) and isinstance(times, int):
                    budget.count(value)
                    budget.spend(len(value) * max(times, 0))
        return budget.made(super().call_binop(context, operator, left, right))

    def call(self, context: Rendering, function: Any, /, *args: Any, **named: Any) -> Any:
        """Raises SecurityError for a function that templates may not call, and for what is too large."""
        budget = context.budget
        named.pop("_loop_vars", None)
        budget.spend(STEP)
        budget.count(args, named)
        if isinstance(function, template_formats.Format):
            return budget.made(function(self, budget, *args, **named))
        if isinstance(function, types.BuiltinMethodType):
            template_filters.pay_method(budget, function, *args, **named)
        return budget.made(whole(super().call(context, function, *args, **named)))

    def wrap_str_format(self, value: Any) -> Any:
        """The method `format` of a text, which is paid for; None for any other value."""
        return template_formats.method(value)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether jinja's sandbox has no objection, and a method is one that templates may call."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        methods = next((names for kind, names in METHODS if isinstance(obj, kind)), frozenset[str]())
        return not callable(value) or attr in methods or isinstance(obj, OF_JINJA)

    def method(self, obj: Any, name: str) -> Any:
        """`obj.name`, called."""
        return super().getattr(obj, name)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`; a dictionary has its keys only, so that one called `items` is not the method."""
        return self.getitem(obj, attribute) if isinstance(obj, Mapping) else super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`; a list's index may be a label of any spelling. What lacks an index is what the index is."""
        if isinstance(argument, jinja2.Undefined):
            return argument
        if isinstance(obj, Mapping):
            argument = str(argument) if isinstance(argument, Whole) and argument not in obj else argument
            return obj[argument] if argument in obj else self.undefined(obj=obj, name=argument)
        return super().getitem(obj, position(argument) if isinstance(obj, list | tuple) else argument)


def position(label: Any) -> Any:
    """A label of a file as a list's index: of 1, 1.0, true, "1", "1.0" and "true" the number 1; others as they are."""
    if isinstance(label, float) and label.is_integer():
        return int(label)
    if isinstance(label, str):
        if WHOLE.fullmatch(label.strip()):
            return int(float(label))
        return TRUTHS.get(label.strip().lower(), label)
    return label


@jinja2.pass_context
def printed(context: Rendering, value: Any) -> str:
    """What a template prints for a value, once it is paid for."""
    shown = text(value)
    context.budget.spend(len(shown))
    return shown


ENVIRONMENT = Sandbox()
