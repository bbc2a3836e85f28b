from __future__ import annotations

import pytest

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import Gbnf
from engine.errors import InvalidRequest
from tests.engine.constraint.walk import accepts

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        (JSON, ['{"a": [1, -2.5e3, "x\\n"], "b": {}}', "{}"], ["{", "[]", '{"a"}']),
        (r'root ::= "a\u0041\xe9" [b-d]+', ["aAéb", "aAébcd"], ["aA", "ab"]),
        ('root ::= item{2,3}\nitem ::= "x" | "y" # a comment', ["xy", "xyx"], ["x", "xyxy"]),
        ("root ::= . .", ["\n\n", "é\t", "]["], ["a", "abc"]),
        (r'root ::= [+-] [a-] [\]\[&~"^/]', ["-a]", "+-^", "-a&", "-a/"], ["a", "-b]"]),
        ('Rule ::= "a"\nroot ::= Rule rule RULE\nrule ::= "b"\nRULE ::= "c"', ["abc"], ["aaa", "ab"]),
        ('root ::= start 1a\nstart ::= "s"\n1a ::= "1"', ["s1"], ["s"]),
        (r'root ::= "[]/\"\\"', ['[]/"\\'], ["[]"]),
        ('root ::= ("a"\n  | "b") |\n  "c"', ["a", "b", "c"], ["ab"]),
        ('root ::= a root "x" | "y"\na ::= b\nb ::= ""', ["y", "yx", "yxx"], ["x"]),
        ('root ::= root "x" | "y"', ["y", "yxxx"], ["", "xy"]),
    ],
)
def test_it_means_what_it_means_to_llama_cpp(
    compiler: ConstraintCompiler, grammar: str, right: list[str], wrong: list[str]
) -> None:
    constraint = compiler.compile(Gbnf(grammar))
    assert [text for text in right if not accepts(constraint, text)] == []
    assert [text for text in wrong if accepts(constraint, text)] == []


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "root",
        'rule ::= "a"',
        "root ::= missing",
        r'root ::= "\q"',
        r'root ::= "\ud800"',
        "root ::= é",
        'root ::= "a',
    ],
)
def test_what_is_no_grammar_is_refused(compiler: ConstraintCompiler, grammar: str) -> None:
    with pytest.raises(InvalidRequest):
        compiler.compile(Gbnf(grammar))
