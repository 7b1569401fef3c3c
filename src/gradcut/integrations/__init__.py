"""gradcut inside other people's tools: Label Studio, CVAT, FiftyOne, transformers' pipelines, PyTorch.

A module for each tool; its package is imported only where the module is used.
"""
