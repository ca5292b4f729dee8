"""PromQL, parsed: which metrics an expression reads, and which labels its result has."""

import promql_parser as promql

Labels = frozenset[str]


def labels(text: str, metrics: dict[str, Labels]) -> Labels:
    """The labels of an expression's result, given those of each metric.

    Raises:
        ValueError: this is no PromQL.
        AssertionError: there is no such metric, or it has no such label.
    """
    return _labels(promql.parse(text), metrics) or frozenset()


def _labels(node: object, metrics: dict[str, Labels]) -> Labels | None:
    """None for a number, which has none and takes none away."""
    match node:
        case promql.VectorSelector():
            assert node.name in metrics, f"there is no metric {node.name}"
            matched = {matcher.name for matcher in node.matchers.matchers}
            assert matched <= metrics[node.name], f"{node.name} lacks one of {sorted(matched)}"
            return metrics[node.name]
        case promql.MatrixSelector():
            return _labels(node.vector_selector, metrics)
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            return _labels(node.expr, metrics)
        case promql.AggregateExpr():
            kept = frozenset(node.modifier.labels if node.modifier else ())
            inner = _labels(node.expr, metrics)
            assert inner is not None
            assert kept <= inner, f"there is no label {sorted(kept - inner)} in {node}"
            return kept
        case promql.BinaryExpr():
            sides = [side for side in (_labels(node.lhs, metrics), _labels(node.rhs, metrics)) if side is not None]
            return frozenset.intersection(*sides) if sides else None
        case promql.Call() if node.func.name == "absent":
            _labels(node.args[0], metrics)
            return frozenset(matcher.name for matcher in node.args[0].matchers.matchers)
        case promql.Call():
            found = [inner for inner in (_labels(argument, metrics) for argument in node.args) if inner is not None]
            return found[0] - {"le"} if node.func.name == "histogram_quantile" else found[0] if found else None
        case promql.NumberLiteral() | promql.StringLiteral():
            return None
    raise TypeError(f"a test must learn what {type(node).__name__} does with labels")
