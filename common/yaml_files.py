"""YAML files that people write, without what hides values or multiplies them."""

from typing import Any

import yaml

from common.errors import UserError, brief

_LARGEST = 1 << 20  # characters
_MOST = 100_000  # values, those that are referred to counted each time
_DEEPEST = 64  # mappings and lists in one another
_TOO_DEEP = f"is nested deeper than {_DEEPEST} levels, which no file for this program is"


class _Refused(Exception):
    """Why a document that is YAML is not read."""


class _Loader(yaml.SafeLoader):
    """Plain values alone; tags that would make objects are refused."""


def parse_yaml(text: str, source: object) -> Any:
    """The value of a YAML text: nested dicts, lists and scalars.

    Args:
        source: what the text is, as `label set FILE`; error texts begin with it.

    Raises:
        UserError: it is no YAML, too large or too deep, refers to itself, has a key twice or tags.
    """
    if len(text) > _LARGEST:
        raise UserError(
            f"{source} is larger than {_LARGEST:,} characters, which no file for this program is."
        )
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, {}, ())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except _Refused as error:
        raise UserError(f"{source} {error}.") from None
    except RecursionError:
        raise UserError(f"{source} {_TOO_DEEP}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source} is no valid YAML ({_where(error)}); mend it there.") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # PyYAML takes numbers, dates and sets apart without a look, and keys may be lists.
        told = brief(error).partition(";")[0]
        raise UserError(f"{source} holds a value that is no YAML ({told}); mend it.") from error


def _measure(node: yaml.Node, known: dict[yaml.Node, int], above: tuple[yaml.Node, ...]) -> int:
    """Values in a part of a document; what is referred to is counted each time.

    Raises:
        _Refused: there are too many, it contains itself, or a key is there twice.
    """
    line = node.start_mark.line + 1
    if node in above:
        raise _Refused(f"contains itself in line {line}; write the values out")
    if len(above) > _DEEPEST:
        raise _Refused(_TOO_DEEP)
    if node in known:
        return known[node]
    count, inside = 1, (*above, node)
    if isinstance(node, yaml.MappingNode):
        keys: set[tuple[str, str]] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (name := (key.tag, key.value)) in keys:
                    raise _Refused(
                        f"has the key {key.value} twice, again in line {key.start_mark.line + 1}; "
                        "take one of them away"
                    )
                keys.add(name)
            count += _measure(key, known, inside) + _measure(value, known, inside)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_measure(item, known, inside) for item in node.value)
    if count > _MOST:
        raise _Refused(f"holds more than {_MOST:,} values, which no file for this program does")
    known[node] = count
    return count


def _where(error: yaml.YAMLError) -> str:
    """What is wrong, with line and column where PyYAML says them."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    if mark is None:
        return brief(problem)
    return f"line {mark.line + 1}, column {mark.column + 1}: {brief(problem)}"
