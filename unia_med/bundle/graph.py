"""The graph of a traced prediction, flat: without inner graphs, without what the result does not depend on."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import fx
from torch.export import ExportedProgram

from unia_med.errors import UserError

_CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")
_AUTOCAST = 4
_BLOCKS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": _AUTOCAST}
"""Blocks with a graph of their own, and the position of that graph among their arguments."""


@dataclass
class FlatGraph:
    """A graph in which inner graphs (blocks of `no_grad` and `autocast(enabled=False)`) are inlined.

    Attributes:
        nodes: in order.
        same: of a node that only passes a value into or out of a block, the node it comes from.
    """

    nodes: list[fx.Node] = field(default_factory=list)
    same: dict[fx.Node, fx.Node] = field(default_factory=dict)

    def add(self, module: fx.GraphModule) -> None:
        """Append the nodes of a graph."""
        results: dict[fx.Node, Any] = {}
        for node in module.graph.nodes:
            place = _BLOCKS.get(getattr(node.target, "__name__", "")) if node.op == "call_function" else None
            if place is not None:
                results[node] = self._add_block(module, node, place)
            elif node.target is operator.getitem and node.args[0] in results:
                self.same[node] = results[node.args[0]][node.args[1]]
            else:
                self.nodes.append(node)

    def source(self, node: fx.Node) -> fx.Node:
        """Return the node in which a value is computed."""
        while node in self.same:
            node = self.same[node]
        return node

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """Where the values that a node reads are computed."""
        return [self.source(read) for read in node.all_input_nodes]

    def needed(self) -> list[fx.Node]:
        """Return the nodes that the result depends on, in order, without checks."""
        wanted: set[fx.Node] = set()
        self._need(next(node for node in self.nodes if node.op == "output"), wanted)
        for node in reversed(self.nodes):
            if _changes_its_input(node) and wanted.intersection(self._shared(_first(node))):
                self._need(node, wanted)
        return [node for node in self.nodes if node in wanted and not is_one_of(node, _CHECKS)]

    def _shared(self, node: fx.Node) -> Iterator[fx.Node]:
        """Return a node and those that it is a view of, which share its memory."""
        node = self.source(node)
        yield node
        while _is_view(node):
            node = self.source(_first(node))
            yield node

    def _need(self, node: fx.Node, wanted: set[fx.Node]) -> None:
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node not in wanted:
                wanted.add(node)
                waiting += self.inputs(node)

    def _add_block(self, module: fx.GraphModule, node: fx.Node, place: int) -> Any:
        """Append a block's nodes and return those of its results."""
        if place == _AUTOCAST and node.args[2]:
            raise UserError("autocast within a prediction cannot be exported", remedy="Leave it to the caller")
        block = getattr(module, str(cast(fx.Node, node.args[place]).target))
        inside = list(block.graph.nodes)
        entries = [inner for inner in inside if inner.op == "placeholder"]
        passed = cast(tuple[fx.Node, ...], node.args[place + 1 :])
        self.same.update(zip(entries, passed, strict=True))
        inner = FlatGraph(same=self.same)
        inner.add(block)
        self.nodes += [one for one in inner.nodes if one.op not in ("placeholder", "output")]
        return next(one for one in inside if one.op == "output").args[0]


def flat_graph(program: ExportedProgram) -> FlatGraph:
    """Return the flat graph of a traced network.

    Args:
        program: of `trace.trace_prediction`.

    Raises:
        UserError: part of the prediction runs under autocast.
    """
    flat = FlatGraph()
    flat.add(program.graph_module)
    return flat


def is_one_of(node: fx.Node, operations: tuple[str, ...]) -> bool:
    """Whether a node is a call of one of these operations of torch, whatever their overload."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.name.split("::")[1] in operations


def _first(node: fx.Node) -> fx.Node:
    """Return the node that is the first argument of a call."""
    return cast(fx.Node, node.args[0])


def _changes_its_input(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_view(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload) or not node.args or not isinstance(node.args[0], fx.Node):
        return node.target is operator.getitem
    return any(result.alias_info is not None for result in node.target._schema.returns) or node.target._schema.name in (
        "aten::reshape",
        "aten::flatten",
        "aten::contiguous",
        "aten::to",
        "aten::unflatten",
    )
