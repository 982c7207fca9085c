"""Python source of a traced network: plain torch, readable, scriptable, with the parameter names of training."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from unia_med.bundle.graph import flat_graph, is_one_of
from unia_med.errors import UserError

_WRAPPER = "method."
"""The prefix that `trace.Probabilities` puts before the method's own names."""

_LONGEST_LINE = 120
_NOTHING = ("dropout", "feature_dropout", "lift_fresh_copy", "detach", "alias")
"""Operations that change nothing in eval mode."""

_INFIX = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.mod: "%"}

_HEADER = '''"""{title}

Written by `unia-med export` from the prediction of a trained method: one line per operation, grouped by the module it
comes from. Parts that serve training alone are left out; names of parameters are those of training.
"""

from __future__ import annotations

import torch
from torch import nn

aten = torch.ops.aten

PARAMETERS = {{
{parameters}
}}
"""Shape of each parameter, by name."""

BUFFERS = {{
{buffers}
}}
"""Shape and type of each tensor that is not learned, by name."""


class Branch(nn.Module):
    """A place in the tree of names."""


class Network(nn.Module):
    """Slices (B, {channels}, {height}, {width}) in [0, 1] to class probabilities (B, {classes}, {height}, {width}).

    Any number of slices; of this size, to which the preprocessing of the bundle brings them.
    """

    def __init__(self) -> None:
        super().__init__()
        tree: dict = {{}}
        for name, shape in PARAMETERS.items():
            _plant(tree, name, nn.Parameter(torch.zeros(shape)))
        for name, (shape, kind) in BUFFERS.items():
            _plant(tree, name, torch.zeros(shape, dtype=getattr(torch, kind)))
        _grow(self, tree)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
'''

_FOOTER = '''

def _plant(tree: dict, name: str, tensor: torch.Tensor) -> None:
    """Put a tensor into nested dictionaries, one level for each part of its name."""
    *path, leaf = name.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[leaf] = tensor


def _grow(branch: nn.Module, tree: dict) -> nn.Module:
    """The branch with modules and tensors as in nested dictionaries; numbered modules become a list."""
    if tree and all(name.isdigit() and isinstance(child, dict) for name, child in tree.items()):
        count = max(map(int, tree)) + 1
        return nn.ModuleList(_grow(Branch(), tree.get(str(index), {})) for index in range(count))
    for name, child in tree.items():
        if isinstance(child, dict):
            branch.add_module(name, _grow(Branch(), child))
        elif isinstance(child, nn.Parameter):
            branch.register_parameter(name, child)
        else:
            branch.register_buffer(name, child)
    return branch
'''


@dataclass
class _Names:
    """Variable names, reused when their value is no longer needed, so that memory is released."""

    taken: dict[fx.Node, str] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    count: int = 0

    def give(self, node: fx.Node, prefix: str) -> str:
        """Return a name for a value: `x` for tensors; others are few and never share one, as TorchScript demands."""
        if prefix == "x" and self.free:
            number = min(self.free)
            self.free.remove(number)
        else:
            self.count += 1
            number = self.count
        self.taken[node] = f"{prefix}{number}"
        return self.taken[node]

    def release(self, node: fx.Node) -> None:
        """Take back the name of a value that nothing reads any more."""
        name = self.taken.pop(node, "")
        if name.startswith("x"):
            self.free.append(int(name[1:]))

    def pass_on(self, source: fx.Node, node: fx.Node, last_use: dict[fx.Node, fx.Node]) -> None:
        """Give a node that is an alias of its source the source's name until neither is read."""
        if last_use[source] is node:
            self.taken[node] = self.taken.pop(source, "")
        elif node in last_use:
            self.taken.pop(source, "")  # read under both names: never given out again


def network_weights(program: ExportedProgram) -> dict[str, Tensor]:
    """Return what the graph reads, by training names: contiguous CPU copies of parameters, buffers, constants.

    Args:
        program: of `trace.trace_prediction`.
    """
    return {name: tensor.detach().cpu().contiguous().clone() for _, name, tensor, _ in _tensors(program)}


def network_source(program: ExportedProgram, title: str) -> str:
    """Return the source of a module with a class `Network` that computes what the graph computes.

    Args:
        program: of `trace.trace_prediction`.
        title: first line of the module's docstring.

    Raises:
        UserError: the graph has a node that is no plain tensor operation.
    """
    parameters, buffers, attributes = [], [], {}
    lists = _lists([name for _, name, _, _ in _tensors(program)])
    for node_name, name, tensor, learned in _tensors(program):
        attributes[node_name] = _attribute(name, lists)
        shape = tuple(tensor.shape)
        if learned:
            parameters.append(f'    "{name}": {shape},')
        else:
            buffers.append(f'    "{name}": ({shape}, "{str(tensor.dtype).removeprefix("torch.")}"),')
    image, output = _image(program).meta["val"], _output(program).meta["val"]
    header = _HEADER.format(
        title=title,
        parameters="\n".join(parameters),
        buffers="\n".join(buffers),
        channels=image.shape[1],
        height=image.shape[2],
        width=image.shape[3],
        classes=output.shape[1],
    )
    return header + "\n".join(_forward_lines(program, attributes)) + "\n" + _FOOTER


def _tensors(program: ExportedProgram) -> Iterator[tuple[str, str, Tensor, bool]]:
    """Return node name, own name, tensor, and whether it is learned, of everything the graph reads except the image."""
    used = {node.name for node in flat_graph(program).needed() if node.op == "placeholder"}
    kinds = {InputKind.PARAMETER: True, InputKind.BUFFER: False, InputKind.CONSTANT_TENSOR: False}
    for spec in program.graph_signature.input_specs:
        if spec.kind in kinds and spec.arg.name in used:
            stored = program.state_dict if spec.target in program.state_dict else program.constants
            tensor = stored[spec.target]
            learned = kinds[spec.kind] and tensor.is_floating_point()
            yield spec.arg.name, spec.target.removeprefix(_WRAPPER), tensor, learned


def _lists(names: list[str]) -> set[str]:
    """Names of the modules whose children are all numbered modules: these become lists."""
    children: dict[str, set[tuple[str, bool]]] = {}
    for name in names:
        parts = name.split(".")
        for depth in range(len(parts)):
            child = (parts[depth], depth == len(parts) - 1)
            children.setdefault(".".join(parts[:depth]), set()).add(child)
    return {name for name, found in children.items() if name and all(p.isdigit() and not leaf for p, leaf in found)}


def _attribute(name: str, lists: set[str]) -> str:
    """Return the expression that reads a named tensor: `a.0.b` is self.a[0].b where `a` is a list."""
    expression, path = "self", ""
    for part in name.split("."):
        if path in lists:
            expression += f"[{part}]"
        else:
            expression = f"{expression}.{part}" if part.isidentifier() else f'getattr({expression}, "{part}")'
        path = f"{path}.{part}" if path else part
    return expression


def _image(program: ExportedProgram) -> fx.Node:
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
    return next(node for node in program.graph.nodes if node.name in names)


def _output(program: ExportedProgram) -> fx.Node:
    return next(node for node in program.graph.nodes if node.op == "output").args[0][0]


def _forward_lines(program: ExportedProgram, attributes: dict[str, str]) -> Iterator[str]:
    flat = flat_graph(program)
    nodes = [node for node in flat.needed() if node.op in ("call_function", "output")]
    values = {node: attributes[node.name] for node in program.graph.nodes if node.name in attributes}
    values[_image(program)] = "image"
    names, place = _Names(), ""
    last_use = {source: node for node in nodes for source in flat.inputs(node)}

    def text(value: Any) -> str:
        return _text(value, lambda node: values[flat.source(node)])

    for node in nodes:
        if node.op == "output":
            (results,) = node.args
            yield f"        return {text(cast(tuple[Any, ...], results)[0])}"
            continue
        if is_one_of(node, _NOTHING):
            source = flat.source(cast(fx.Node, node.args[0]))
            values[node] = values[source]
            names.pass_on(source, node, last_use)
            continue
        if _origin(node) != place:
            place = _origin(node)
            yield f"        # {place}"
        call = _call(node, text)
        for source in set(flat.inputs(node)):
            if last_use[source] is node:
                names.release(source)
        values[node] = names.give(node, _prefix(node)) if node in last_use else "_"
        yield from _wrapped(f"{values[node]} = {call}")


def _prefix(node: fx.Node) -> str:
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return "x"
    return "parts" if isinstance(value, (list, tuple)) else "n"


def _origin(node: fx.Node) -> str:
    """Return name and class of the innermost module of this package that an operation belongs to."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    own = [(path, str(kind)) for path, kind in stack if path and "torch.nn.modules" not in str(kind)]
    path, kind = own[-1] if own else ("", "")
    path = f"{path}.".removeprefix(_WRAPPER).rstrip(".")
    return f"{path}: {kind.rpartition('.')[2]}" if "." in kind and path else "around the network"


def _call(node: fx.Node, text: Callable[[Any], str]) -> str:
    arguments = [text(argument) for argument in node.args]
    if node.target is operator.getitem:
        return f"{arguments[0]}[{arguments[1]}]"
    if node.target in _INFIX:
        return f"({arguments[0]} {_INFIX[node.target]} {arguments[1]})"
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        raise UserError(
            f"the prediction uses {node.target}, which is no plain tensor operation",
            remedy="In Method.predict use tensor operations of PyTorch only",
        )
    operation = node.target._schema.name.split("::")[1]
    if operation == "sym_size":
        return f"{arguments[0]}.size({arguments[1]})"
    fixed = {"layout", "pin_memory"}  # of new tensors: strided and not pinned by default
    named = [f"{key}={text(value)}" for key, value in node.kwargs.items() if key not in fixed]
    return f"aten.{operation}({', '.join([*arguments, *named])})"


def _text(value: Any, name: Callable[[fx.Node], str]) -> str:
    """Return an argument as source; `name` gives the variable of a node's value."""
    if isinstance(value, fx.Node):
        return name(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(item, name) for item in value)}]"
    if isinstance(value, torch.device):
        return "image.device"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)  # numbers, None, text, and torch types, whose repr is their name


def _wrapped(line: str) -> Iterator[str]:
    """Return a statement in the body of `forward`, over several lines where it is long."""
    whole = f"        {line}"
    if len(whole) <= _LONGEST_LINE or "(" not in line:
        yield whole
        return
    start, _, rest = line.partition("(")
    yield f"        {start}("
    row = ""
    for part in _split(rest[:-1]):
        if row and len(row) + len(part) + 14 > _LONGEST_LINE:
            yield f"            {row}"
            row = ""
        row += f"{' ' if row else ''}{part},"
    yield f"            {row}"
    yield "        )"


def _split(arguments: str) -> list[str]:
    """Arguments separated at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(arguments):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append(arguments[start:index].strip())
            start = index + 1
    return [*parts, arguments[start:].strip()]
