"""The policy file: its models, how it is read, and what editors and authors are told about it."""

from .model import Budget, Concurrency, Grant, Limit, Once, Policy, RateLimit, Tool
from .units import Rate

__all__ = [
    "Budget",
    "Concurrency",
    "Grant",
    "Limit",
    "Once",
    "Policy",
    "Rate",
    "RateLimit",
    "Tool",
]
