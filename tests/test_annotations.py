"""What is public is annotated, so that editors and type checkers know it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "anogan_tf"
MODULES = sorted(PACKAGE.rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def public(body):
    """The functions, and the methods of classes, whose names have no leading underscore, or two on both sides."""
    for node in body:
        if isinstance(node, ast.If):
            yield from public(node.body)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            if node.name.startswith("_") and not node.name.endswith("__"):
                continue
            yield from public(node.body) if isinstance(node, ast.ClassDef) else (node,)


def unannotated(function):
    """The parameters without an annotation, and `return`; the `**settings` of a command are what click gives."""
    arguments = function.args
    command = any(ast.unparse(decorator) == "command" for decorator in function.decorator_list)
    positional = [*arguments.posonlyargs, *arguments.args]
    if positional and positional[0].arg in ("self", "cls"):
        positional = positional[1:]
    variable = filter(None, (arguments.vararg, None if command else arguments.kwarg))
    missing = [argument.arg for argument in (*positional, *arguments.kwonlyargs, *variable) if not argument.annotation]
    return missing + ["return"] * (function.returns is None)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_what_is_public_is_annotated(module):
    found = {
        f"{function.name}, line {function.lineno}": missing
        for function in public(ast.parse(module.read_text()).body)
        if (missing := unannotated(function))
    }
    assert not found
