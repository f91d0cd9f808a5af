"""Inputs that nobody thought of, by the hundred thousand: `make fuzz`, and a short run of the same in the tests.

What takes bytes from strangers, or from a broker, is a target. An input fails when anything comes out but what the
target documents, when it takes longer than its length explains, or when memory is not given back.
"""
