"""Where Jinja that cannot be parsed is wrong, and what closes it."""

import pytest

from rat_resources.errors import Problem
from rat_resources.templates import read_template

CASES = {
    "SELECT {{ this\nFROM t": (1, "close it with }}"),
    "SELECT 1\n{% if is_incremental()\nFROM t": (2, "close it with %}"),
    "SELECT 1\n{% if true %}\nFROM t": (2, "close it with {% endif %}"),
    "{% if true %}\n{% for a in [1] %}\n{% endif %}": (
        3,
        "close that first, with {% endfor %}",
    ),
    "SELECT 1\n{% endif %}": (2, "remove it, or open the block"),
    "SELECT {{ a | uper }}": (1, "did you mean upper?"),
    "{% iff true %}{% endif %}": (1, "did you mean if?"),
    "SELECT {{ ref({{ this }}) }}": (1, "write the name itself"),
    # A set with a value has no end.
    "{% set a = 1 %}\n{% if a %}": (2, "close it with {% endif %}"),
    f"SELECT {{{{ {'(' * 3000}1{')' * 3000} }}}}": (1, "take it apart"),
}


@pytest.mark.parametrize("template", CASES, ids=range(len(CASES)))
def test_a_mistake_is_explained_where_it_was_made(template: str) -> None:
    line, fix = CASES[template]

    problem = read_template(template, path="a.sql", namespace="shop").problems[0]

    assert isinstance(problem, Problem)
    assert problem.line == line
    assert fix in problem.fix
