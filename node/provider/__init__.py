"""What this node does for the jobs of others: prepare, execute, collect, serve logs.

Spec: specs/execution.md#executions.
"""
